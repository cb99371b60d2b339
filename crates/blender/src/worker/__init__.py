"""What Grange runs inside Blender, from files that the driver lays into a run directory."""
