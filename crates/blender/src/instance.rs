//! One live Blender process, driven over a socket of its own.
