"""Is a network easier to fool than it was: two runs compared sample by sample. Free of torch and pandas."""
