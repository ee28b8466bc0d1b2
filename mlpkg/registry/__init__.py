"""The bundled registry: its life, its own image, its care."""
