"""The HTTP interface: connections, routes, schemas and problem documents."""
