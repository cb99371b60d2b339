//! The worker inside real Blenders.
