"""``edgeml keys``: Ed25519 keys that sign bundles."""

from __future__ import annotations

from pathlib import Path

import click

from edgeml.cli import options, output


@click.group(name="keys", short_help="Make and show signing keys.")
def command() -> None:
    """Make and show the Ed25519 keys that sign bundles.

    \b
    Example:
      edgeml keys generate release.key
      edgeml compile churn.skops --data train.csv --target-column churned \\
        -o churn.edgeml --sign-with release.key
      edgeml verify churn.edgeml --public-key release.key.pub
    """


@command.command()
@click.argument("path", type=options.FILE)
@options.json_option
def generate(path: Path, as_json: bool) -> None:
    """Make a private key in PATH and its public key in PATH.pub; neither may exist.

    The private key is readable by its owner only. Set EDGEML_KEY_PASSPHRASE to encrypt it; the same variable
    opens it again when a bundle is signed.

    \b
    Example:
      edgeml keys generate release.key
    """
    from edgeml.bundle.sign import generate_key, key_id, public_keys

    private, public = generate_key(path)
    name = key_id(public_keys(public)[0])
    if as_json:
        output.print_json({"private": str(private), "public": str(public), "key_id": name})
        return
    output.line(f"key {name}")
    output.line(f"  {private}  private: keep it secret, and keep a copy")
    output.line(f"  {public}  public: give it to whoever verifies")


@command.command()
@click.argument("path", type=options.FILE)
@options.json_option
def show(path: Path, as_json: bool) -> None:
    """Show the id and the public half of the key in PATH, private or public.

    \b
    Example:
      edgeml keys show release.key.pub
    """
    from cryptography.hazmat.primitives import serialization

    from edgeml.bundle.sign import key_id, private_key, public_keys

    kind = "private" if b"PRIVATE KEY-----" in path.read_bytes()[:65536] else "public"
    public = private_key(path).public_key() if kind == "private" else public_keys(path)[0]
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    if as_json:
        output.print_json({"path": str(path), "kind": kind, "key_id": key_id(public), "public_pem": pem})
        return
    output.line(f"{path}: {kind} key {key_id(public)}")
    output.line(pem.rstrip())
