"""The gate of personal data: checksums hold, masking is final, and ordinary numbers stay."""

import ipaddress

import pytest
from gates_at_hand import CONVERSATION, said
from hypothesis import given
from hypothesis import strategies as st

from potstill.generation.gates.personal_data import mask, passes_luhn, passes_mod_97
from potstill.spec.sections import GatesSpec, PersonalDataSpec

KINDS = ("email", "phone", "card", "iban", "ip")
MASK = GatesSpec(personal_data=PersonalDataSpec())
DROP = GatesSpec(personal_data=PersonalDataSpec(action="drop"))

FOUND = [
    ("email", "ada@example.org"),
    ("email", "Ada.Lovelace+notes@mail.example.co.uk"),
    ("email", "jürgen@müller.de"),
    ("email", "o'hara@example.ie"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "+49 (0)30 901820"),
    ("phone", "+1-212-555-0123"),
    ("phone", "+919876543210"),
    ("phone", "0049 30 901820"),
    ("phone", "(408) 247-8880"),
    ("phone", "408-247-8880"),
    ("phone", "408.247.8880"),
    ("phone", "1-800-555-0199"),
    ("phone", "030 901820100"),
    ("phone", "0171/2345678"),
    ("phone", "020 7946 0958"),
    ("phone", "06 12 34 56 78"),
    ("phone", "03-1234-5678"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111111111111111"),
    ("card", "5500-0055-5555-5559"),
    ("card", "3782 822463 10005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB29NWBK60161331926819"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("iban", "no93 8601 1117 947"),
    ("ip", "192.168.17.4"),
    ("ip", "8.8.8.8"),
    ("ip", "2001:db8::ff00:42:8329"),
    ("ip", "fe80::1ff:fe23:4567:890a"),
    ("ip", "2001:0db8:0000:0000:0000:ff00:0042:8329"),
]

ORDINARY = """
The bill is 1,234,567.89 euros for 120 people.
We met on 2024-05-17 and again on 17.05.2024, at 10:30:45.
From 01/02/2023 to 03-04-2023 10:30 it was closed.
Order 4111111111111112 was shipped as parcel 00340434161094042557.
Version 1.2.3.4 replaces v2.0.1.7, see section 3.1.4.1.
It is 3.14159265358979 or 0.123456789012.
The population was 8336817 in 2020, 8804190 in 2010 and 0 in 1500.
ISBN 978-3-16-148410-0 costs 20 euros.
Call f(10, 200, 3000) or use a[100::2] and std::vector, Ab::Cd.
The address is 00:1a:2b:3c:4d:5e.
Install react@18.2.0 and ask @someone about it.
DE89 3704 0044 0532 0130 01 is off by one.
999.1.1.1 and 1.2.3 are no addresses.
5 + 3 = 8, 12 - 7 = 5, 1 2 3 4 5 6 7 8 9 10.
In 1914 1918 1939 1945 there was war.
0 1 1 2 3 5 8 13 21 34 55
""".strip().splitlines()


def luhn_number(digits: str) -> str:
    return next(digits + last for last in "0123456789" if passes_luhn(digits + last))


@pytest.mark.parametrize(("kind", "text"), FOUND)
@pytest.mark.parametrize("around", ["{}", "Here: {}.", "({})", '"{}", they say', "- {}\n- more", "它是{}。"])
def test_personal_data_is_found_whatever_stands_around_it(kind, text, around):
    before, after = around.split("{}")
    if kind == "email" and after.startswith("。") and text.isascii():
        before = "它是 "  # a letter before an address is part of it
    assert mask(f"{before} {text}{after}", KINDS) == (f"{before} [{kind.upper()}]{after}", {kind: 1})


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_and_names_stay(text):
    assert mask(text, KINDS) == (text, {})


@pytest.mark.parametrize("text", ["Phone: 4082478880", "Their phone number is 4082478880.", "Telefon 4082478880", "电话：4082478880"])
def test_bare_digits_are_a_number_where_a_word_says_so(text):
    assert mask(text, KINDS)[0] == text.replace("4082478880", "[PHONE]")
    assert mask("Order 4082478880", KINDS)[0] == "Order 4082478880"


@given(st.text("0123456789", min_size=8, max_size=18), st.data())
def test_luhn_finds_every_single_wrong_digit(digits, data):
    number = luhn_number(digits)
    place = data.draw(st.integers(0, len(number) - 1))
    wrong = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[place]]))
    assert not passes_luhn(number[:place] + wrong + number[place + 1 :])


@given(st.text("0123456789", min_size=18, max_size=18), st.data())
def test_mod_97_finds_every_single_wrong_digit_and_every_swap_of_neighbours(account, data):
    check = 98 - int(f"{account}131400") % 97  # 1314: DE
    iban = f"DE{check:02d}{account}"
    assert passes_mod_97(iban)
    assert mask(f"{iban[:10]} {iban[10:]}", ["iban"])[0] == "[IBAN]"
    place = data.draw(st.integers(2, len(iban) - 2))
    wrong = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != iban[place]]))
    assert not passes_mod_97(iban[:place] + wrong + iban[place + 1 :])
    swapped = iban[:place] + iban[place + 1] + iban[place] + iban[place + 2 :]
    assert passes_mod_97(swapped) == (swapped == iban)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda address: address.exploded.count("0000") < 4))
def test_addresses_are_found_in_each_of_their_forms(address):
    for text in {str(address), address.exploded}:
        assert ipaddress.ip_address(text) == address
        assert mask(f"from {text} on", KINDS)[0] == "from [IP] on"


PIECES = st.sampled_from(
    [text for _, text in FOUND] + ["[EMAIL]", "[PHONE]", "@", ".", "1", "22", " ", "-", "+", "tel", ":", "x", "::", "0", "\n"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_masking_what_is_masked_changes_nothing(text):
    masked, _ = mask(text, KINDS)
    assert mask(masked, KINDS) == (masked, {})


def test_a_masked_answer_is_kept_and_comes_back_and_the_reason_quotes_nothing():
    found = said("personal_data", "Write to ada@example.org, or call +44 20 7946 0958 or +44 20 7946 0959.", MASK)
    assert found.keep
    assert found.text == "Write to [EMAIL], or call [PHONE] or [PHONE]."
    assert (found.code, found.reason) == ("email+phone", "masked: email 1, phone 2")


def test_a_dropped_answer_says_what_it_held_and_quotes_nothing():
    found = said("personal_data", "Write to ada@example.org.", DROP)
    assert (found.keep, found.code, found.reason) == (False, "email", "holds personal data: email 1")


def test_what_the_prompt_says_is_masked_in_the_answer_all_the_same():
    found = said("personal_data", "I shall write to ada@example.org.", MASK, asked="I am ada@example.org.")
    assert found.text == "I shall write to [EMAIL]."


def test_only_the_kinds_that_were_asked_for_are_looked_for():
    gates = GatesSpec(personal_data=PersonalDataSpec(kinds=("phone",)))
    assert said("personal_data", "ada@example.org, 408-247-8880", gates).text == "ada@example.org, [PHONE]"


def test_an_answer_without_personal_data_is_left_as_it_is():
    found = said("personal_data", "All is well.", MASK)
    assert (found.keep, found.code, found.text) == (True, "", None)


def test_json_that_masking_would_break_is_dropped():
    whole = said("personal_data", '{"phone": "408-247-8880"}', MASK, task=CONVERSATION, schema="{}")
    assert whole.text == '{"phone": "[PHONE]"}'
    broken = said("personal_data", '{"phone": 4082478880}', MASK, task=CONVERSATION, schema="{}")
    assert (broken.keep, broken.code) == (False, "phone")
