"""Where a rule's gradient goes wrong on a device, rung by rung, against BPTT on the drawn chip."""
