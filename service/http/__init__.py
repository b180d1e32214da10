"""How the engine is asked over HTTP: FastAPI routes, pydantic schemas and problem documents."""
