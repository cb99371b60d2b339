# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of others' licences that come with the add-on: `cargo xtask addon` puts `grange`, the
client of a farm, in here."""
