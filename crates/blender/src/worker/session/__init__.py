"""What a person drives from Python: operations on the open scene, by name.

A session is one instance held by one person. What its operations change stays changed until the
file is opened again; shots of jobs never see it, because an instance ends with its session.
"""
