"""Values and abstract contracts that every other room is written against."""
