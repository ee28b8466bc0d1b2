"""The safe list and the patterns over it: judged as git judges, and nothing that models are made of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from mlpkg.spec.listing import list_tree
from mlpkg.spec.withheld import CLUTTER, PRIVATE, LeftOut, default_pattern, default_reason, joined, left_out

PRIVATE_PATHS = [
    ".git/",
    ".git",
    ".hg/",
    ".svn/",
    ".idea/",
    ".vscode/",
    ".venv/",
    "venv/",
    "node_modules/",
    ".cache/",
    ".config/",
    ".bash_history",
    ".python_history",
    ".env",
    ".env.production",
    "prod.env",
    ".envrc",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    "rclone.conf",
    "vault.kdbx",
    ".vault-token",
    ".git-credentials",
    ".gitconfig",
    ".pypirc",
    "pip.conf",
    "pip.ini",
    ".npmrc",
    ".yarnrc.yml",
    ".condarc",
    ".cargo/",
    ".dvc/",
    "credentials.json",
    "google-credentials.json",
    "credentials.csv",
    "secrets.toml",
    "secrets.yaml",
    "secrets.json",
    ".secrets",
    ".secrets.toml",
    "client_secret_123.json",
    "service-account-prod.json",
    "service_account.json",
    "x-firebase-adminsdk-y.json",
    "local.settings.json",
    ".aws/",
    ".azure/",
    ".azureml/",
    ".gcloud/",
    ".databrickscfg",
    ".snowflake/",
    ".docker/",
    ".dockercfg",
    ".kube/",
    "kubeconfig",
    "kubeconfig.yaml",
    "prod.kubeconfig",
    ".terraform/",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "prod.tfvars",
    ".pulumi/",
    ".ansible/",
    "kaggle.json",
    ".kaggle/",
    ".huggingface/",
    "clearml.conf",
    ".comet.config",
    ".ssh/",
    ".gnupg/",
    "id_rsa",
    "id_rsa.pub",
    "id_ed25519",
    "id_ecdsa_sk",
    "server.pem",
    "server.key",
    "putty.ppk",
    "key.p8",
    "key.p12",
    "key.pfx",
    "store.jks",
    "store.keystore",
    "http.keytab",
]

ORDINARY_PATHS = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "vocab.bpe",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "saved_model.pb",
    "keras_metadata.pb",
    "fingerprint.pb",
    "variables/",
    "variables.index",
    "variables.data-00000-of-00001",
    "model.onnx",
    "model.onnx_data",
    "model.joblib",
    "model.pkl",
    "model.dump",
    "model.cbm",
    "model.ubj",
    "model.h5",
    "model.keras",
    "weights.npz",
    "labels.txt",
    "checkpoint",
    "checkpoint.index",
    "MLmodel",
    "conda.yaml",
    "python_env.yaml",
    "requirements.txt",
    "input_example.json",
    "chroma.sqlite3",
    "index.faiss",
    "features.db",
    "data.csv",
    "data.parquet",
    "schema.sql",
    "query.sql",
    "README.md",
    "LICENSE",
    ".gitattributes",
    ".gitignore",
    ".dockerignore",
    "score.py",
    "keys.py",
    "secrets.py",
    "credentials.py",
    "token.py",
    "environment.py",
    "env.py",
    "secrets/",
    "credentials/",
    "env/",
    "keys/",
    "tokens/",
    "wandb/",
    "mlruns/",
    "data/",
    "cache/",
    "config/",
    "docker/",
    "kube/",
    "ssh/",
    "git/",
    "params.json",
    "settings.py",
    "settings.toml",
    "uv.toml",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
    "ca-bundle.crt",
    "certificate.crt",
    "corpus.key.txt",
    "keyboard.py",
    "monkey",
    "idle.py",
    "id_map.json",
    "environment.yml",
    "generation_config.json",
    "preprocessor_config.json",
    "model.key2",
    "account.json",
    "keychain.py",
    "api_key_schema.json",
]


@pytest.mark.parametrize("path", PRIVATE_PATHS)
def test_private(path: str) -> None:
    assert default_reason(path) == "private"
    assert default_reason(f"a/b/{path}") == "private"


@pytest.mark.parametrize("path", ORDINARY_PATHS)
def test_what_models_and_code_are_made_of_ships(path: str) -> None:
    assert default_reason(path) == ""
    assert default_reason(f"a/b/{path}") == ""


def test_clutter_is_no_news() -> None:
    for path in ("__pycache__/", "a/b.pyc", ".DS_Store", ".ipynb_checkpoints/", "a~", ".mlpkg/"):
        assert default_reason(path) == "clutter"


NAMES = st.one_of(
    st.sampled_from([*PRIVATE_PATHS, *ORDINARY_PATHS]).map(lambda path: path.rstrip("/")),
    st.sampled_from([*CLUTTER, *PRIVATE]).map(lambda pattern: pattern.rstrip("/").replace("*", "x")),
    st.text(st.sampled_from("ab.*_-~k~e y"), min_size=1, max_size=8),
)


@settings(max_examples=500, deadline=None)
@given(NAMES, st.booleans())
def test_the_list_means_what_git_would_make_of_it(name: str, is_folder: bool) -> None:
    patterns = GitIgnoreSpec.from_lines([*CLUTTER, *PRIVATE])
    path = f"{name}/" if is_folder else name
    assert bool(default_reason(path)) == patterns.match_file(path)
    pattern = default_pattern(path)
    assert bool(pattern) == bool(default_reason(path))
    assert not pattern or GitIgnoreSpec.from_lines([pattern]).match_file(path)


def test_left_out_in_words() -> None:
    assert str(LeftOut()) == ""
    many = left_out(f"m/{number}.pem" for number in range(9))
    assert str(many) == "m/0.pem, m/1.pem, m/2.pem, m/3.pem, m/4.pem and 4 more"
    assert str(joined([many, left_out(["a/.env"]), LeftOut()])) == (
        "a/.env, m/0.pem, m/1.pem, m/2.pem, m/3.pem and 5 more"
    )


TREE = (
    "score.py", "lib/a.py", "lib/b.txt", "lib/sub/c.py", "certs/ca.pem", "certs/sub/ca.pem", "certs/.env",
    "build/x", "a/build/y", "keep/z.txt", "notes.ipynb", "lib/notes.ipynb", ".config/app/settings.json",
    ".config/app/.env", "x/y/z/w.txt",
)  # fmt: skip


@pytest.mark.parametrize(
    "lines",
    [
        ["build/"],
        ["/build/"],
        ["*.py", "!score.py"],
        ["*", "!*/", "!*.py"],
        ["lib/*", "!lib/a.py"],
        ["lib/**", "!lib/a.py"],
        ["**/sub/"],
        ["x/**/w.txt"],
        ["!certs/"],
        ["!certs/ca.pem"],
        ["!*.pem"],
        ["!.config/"],
        ["!.config/", "!.config/**"],
        ["*.ipynb", "!/notes.ipynb"],
        ["build/", "!build/", "build/x"],
        ["keep", "!keep/z.txt"],
        ["#x", "", r"\#x", "lib/sub"],
        ["*.txt", "!/x/**/*.txt"],
        ["!.env"],
    ],
    ids=" ".join,
)
def test_patterns_are_judged_as_git_judges(lines: list[str], tmp_path: Path) -> None:
    """git itself is asked, with the safe list before the spec's patterns."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    ignored = tmp_path.parent / f"{tmp_path.name}.patterns"
    ignored.write_text("\n".join([*CLUTTER, *PRIVATE, *lines]) + "\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True, capture_output=True)
    asked = subprocess.run(
        ["git", "-C", tmp_path, "ls-files", "--others", "--exclude-from", ignored],
        check=True,
        capture_output=True,
        text=True,
    )
    listed = list_tree(tmp_path, ignore=lines, place="m", shown="", key="")
    assert [entry.path for entry in listed.entries] == sorted(asked.stdout.split())
