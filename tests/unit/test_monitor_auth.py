"""Passwords and tokens of the monitor: what is kept of them, and that right and wrong ones take the same way."""

from unittest.mock import patch

import pytest

from edgeml.errors import MonitorSettingsError
from edgeml.fleet import auth
from tests.monitor_tools import PASSWORD, cheap_hashes, secret_of


def test_token_is_kept_as_a_salted_hash():
    token, again = auth.new_token(), auth.new_token()
    name, secret = auth.split_token(token.text)
    assert name == token.id
    assert auth.token_matches(secret, token.salt, token.hash)
    assert not auth.token_matches(secret, again.salt, token.hash)
    assert not auth.token_matches(secret[:-1] + ("A" if secret[-1] != "A" else "B"), token.salt, token.hash)
    assert secret.encode() not in token.salt + token.hash
    assert secret not in repr(token)


@pytest.mark.parametrize(
    "text", ["", "em_", "em_1_2", "EM_" + "0" * 32 + "_" + "a" * 43, "em_" + "0" * 32 + "_" + "a" * 44]
)
def test_what_is_no_token_is_none(text):
    assert auth.split_token(text) is None


def test_unknown_token_costs_a_comparison_and_is_refused():
    with patch.object(auth.hmac, "compare_digest", wraps=auth.hmac.compare_digest) as compared:
        assert not auth.token_matches("x", None, None)
    assert compared.call_count == 1
    # The hash that stands in for an unknown one must open nothing, either.
    with patch.object(auth, "token_hash", return_value=bytes(32)):
        assert not auth.token_matches("x", None, None)


def test_password_is_kept_as_scrypt_with_its_cost():
    with cheap_hashes():
        kept = auth.hash_password(PASSWORD)
        assert kept != auth.hash_password(PASSWORD)
    assert kept.startswith("scrypt$2$8$3$")
    assert PASSWORD not in kept
    # Read with the cost it was made at, whatever new ones are made at.
    assert auth.password_matches(PASSWORD, kept)
    assert not auth.password_matches(PASSWORD + " ", kept)


def test_password_is_the_same_however_its_accents_were_typed():
    with cheap_hashes():
        kept = auth.hash_password("cafe\N{COMBINING ACUTE ACCENT} au lait noir")
        assert auth.password_matches("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait noir", kept)


def test_unknown_name_costs_the_work_of_a_password():
    with patch.object(auth, "_scrypt", wraps=auth._scrypt) as hashed:
        assert not auth.password_matches("anything", None)
        (call,) = hashed.call_args_list
    assert call.args[2:] == (auth._LOG2_N, auth._R, auth._P)


def test_cost_of_new_passwords_is_not_small():
    # 128 * r * n bytes of memory: 32 MB; what OWASP asks for at p = 3.
    assert (2**auth._LOG2_N, auth._R, auth._P) == (2**15, 8, 3)


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "ab" * 20, "x" * 201])
def test_weak_passwords_are_refused(password):
    with pytest.raises(MonitorSettingsError, match="too short"):
        auth.hash_password(password)


def test_secrets_are_cut_out_of_text():
    token = auth.new_token()
    for text in (
        token.text,
        f"GET /x?t={token.text}&u=1",
        token.text[:50],
    ):
        assert secret_of(token.text)[:8] not in auth.without_secrets(text)
    assert auth.without_secrets("item_1 and system_2") == "item_1 and system_2"
