//! The Blenders of a host: found, and probed by starting them.
