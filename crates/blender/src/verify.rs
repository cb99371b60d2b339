//! Whether an output is a whole file of its format.
