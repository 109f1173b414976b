"""From a template to Works, and from members' statuses back to the template. Pure; `federation.controllers` acts."""
