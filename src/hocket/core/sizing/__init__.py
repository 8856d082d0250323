"""At which size a device trains: one rule a file, asked before each training."""
