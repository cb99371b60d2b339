//! Everything Blender: what a .blend file says without Blender ([`mod@file`]), which Blenders a
//! host has ([`runtime`]), how one is driven ([`instance`]), what is made of the passes of its
//! frames ([`truths`]), and whether what it wrote is whole ([`verify`]). Nothing else in the
//! workspace knows how Blender talks.

pub mod file;
pub mod instance;
pub mod runtime;
pub mod thumbnail;
pub mod truths;
pub mod verify;
