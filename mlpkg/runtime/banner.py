"""What the server says first: its settings and addresses, line by line as Azure's server says them."""

from __future__ import annotations

from mlpkg.runtime.settings import Settings


def lines(settings: Settings) -> list[tuple[str, str]]:
    """Name and value of each setting; the names before the last three are Azure's own."""
    health = settings.health_port if settings.separate_health else settings.port
    return [
        ("Entry Script Name", settings.entry_script or "main.py"),
        ("Model Directory", settings.model_dir or "None"),
        ("Config File", settings.config_file or "None"),
        ("Worker Count", str(settings.workers)),
        ("Worker Timeout (seconds)", f"{settings.worker_timeout:g}" if settings.worker_timeout else "None"),
        ("Server Port", str(settings.port)),
        ("Health Port", str(health)),
        ("Application Insights Enabled", "false (not part of this server: see /metrics)"),
        ("Inferencing HTTP server version", settings.version_header),
        ("CORS for the specified origins", ", ".join(settings.cors_origins) or "None"),
        ("Create dedicated endpoint for health", str(settings.separate_health).lower()),
        ("Scoring Timeout (milliseconds)", str(settings.timeout_ms)),
        ("Largest Request Body (bytes)", str(settings.max_body)),
        ("Lenient", str(settings.lenient).lower()),
    ]


def text(settings: Settings) -> str:
    """The banner as people read it."""
    rows = dict(lines(settings))
    shown = "\n".join(f"{name}: {value}" for name, value in rows.items())
    return (
        f"\nServer Settings\n---------------\n{shown}\n\n"
        f"Server Routes\n---------------\n"
        f"Liveness Probe: GET   127.0.0.1:{rows['Health Port']}/\n"
        f"Score:          POST  127.0.0.1:{settings.port}/score\n\n"
    )
