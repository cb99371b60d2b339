//! What the .blend reader says, against what Blender itself says.
