"""Simulate analog relaxation hardware, and ask whether it can learn.

    z <- z + eps F(z, x)        T steps, with noise and mismatch; what is deployed is L(z_T)

Names stand in `__init__.pyi`, and are imported when they are first used, so that `import hwsim` loads no numerics.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
