//! A whole farm in one thread and a time of its own; see `tests/farm`. Nothing here is part of the
//! product.
