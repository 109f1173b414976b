"""Services over clusters: exports of one name become one import, and what of it goes into which member; pure."""
