"""What Grange runs inside Blender. The driver writes these files into an instance's run directory."""
