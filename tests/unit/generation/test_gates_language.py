"""The language gate: other languages are dropped, the wanted one hardly ever, and what is too short to tell never."""

import pytest
from gates_at_hand import said

from potstill.errors import SpecError
from potstill.spec.sections import GatesSpec

SENTENCES = {
    "en": "Your parcel left our warehouse this morning and should reach you by Thursday.",
    "de": "Ihr Paket hat heute Morgen unser Lager verlassen und sollte bis Donnerstag bei Ihnen sein.",
    "fr": "Votre colis a quitté notre entrepôt ce matin et devrait vous parvenir d'ici jeudi.",
    "es": "Su paquete salió de nuestro almacén esta mañana y debería llegarle antes del jueves.",
    "pt": "A sua encomenda saiu do nosso armazém esta manhã e deverá chegar até quinta-feira.",
    "it": "Il suo pacco ha lasciato il nostro magazzino stamattina e dovrebbe arrivare entro giovedì.",
    "nl": "Uw pakket heeft vanmorgen ons magazijn verlaten en zou donderdag bij u moeten zijn.",
    "sv": "Ditt paket lämnade vårt lager i morse och bör nå dig senast på torsdag.",
    "pl": "Twoja paczka opuściła dziś rano nasz magazyn i powinna dotrzeć do czwartku.",
    "tr": "Paketiniz bu sabah depomuzdan çıktı ve perşembeye kadar elinize ulaşmış olmalı.",
    "ru": "Ваша посылка сегодня утром покинула наш склад и должна прийти к четвергу.",
    "uk": "Ваша посилка сьогодні вранці залишила наш склад і має прибути до четверга.",
    "ar": "غادر طردك مستودعنا هذا الصباح ومن المتوقع أن يصلك بحلول يوم الخميس.",
    "hi": "आपका पार्सल आज सुबह हमारे गोदाम से निकल गया है और गुरुवार तक पहुँच जाना चाहिए।",
    "zh": "您的包裹今天早上已经离开我们的仓库，预计星期四之前送达。",
    "ja": "お荷物は今朝倉庫を出発しましたので、木曜日までにはお届けできる見込みです。",
    "ko": "고객님의 소포는 오늘 아침 저희 창고를 출발했으며 목요일까지 도착할 예정입니다.",
}


@pytest.mark.parametrize("wanted", SENTENCES)
def test_the_wanted_language_is_kept_and_every_other_is_dropped(wanted):
    kept = {code for code, text in SENTENCES.items() if said("language", text, GatesSpec(language=wanted)).keep}
    assert kept == {wanted}


@pytest.mark.parametrize("asked", SENTENCES)
def test_same_means_the_language_of_the_prompt(asked):
    kept = {code for code, text in SENTENCES.items() if said("language", text, GatesSpec(language="same"), asked=SENTENCES[asked]).keep}
    assert kept == {asked}


@pytest.mark.parametrize(
    "text", ["yes", "Ja.", "card_arrival", "42", "3.14 * 2 = 6.28", "好的", "```python\nfor each in the_list_of_things: print(each)\n```"]
)
def test_what_is_too_short_to_tell_is_kept_and_says_so(text):
    for wanted in ("en", "de", "ja"):
        found = said("language", text, GatesSpec(language=wanted))
        assert (found.keep, found.code) == (True, "unsure")


def test_a_prompt_that_does_not_tell_its_language_drops_nothing():
    found = said("language", SENTENCES["de"], GatesSpec(language="same"), asked="2 + 2?")
    assert (found.keep, found.code) == (True, "unsure")


def test_code_and_addresses_in_an_answer_do_not_count():
    code = "```python\nwhile the_parcel.is_not_here(): ask_the_carrier(politely=True)\n```"
    for extra in (code, "https://example.com/this/is/not/the/text/of/the/answer"):
        assert said("language", f"{SENTENCES['de']}\n{extra}", GatesSpec(language="de")).keep
        assert not said("language", f"{SENTENCES['de']}\n{extra}", GatesSpec(language="en")).keep


@pytest.mark.parametrize(("name", "code"), [("en-GB", "en"), ("DE", "de"), ("zh_Hans", "zh"), ("pt-BR", "pt")])
def test_regions_and_letter_case_do_not_matter(name, code):
    assert said("language", SENTENCES[code], GatesSpec(language=name)).code == ""


def test_norwegian_goes_by_each_of_its_names():
    text = "Pakken din forlot lageret vårt i morges og skal være hos deg innen torsdag."
    for name in ("no", "nb", "nn", "nb-NO"):
        assert said("language", text, GatesSpec(language=name)).keep


def test_a_language_that_nobody_knows_is_refused_with_a_hint():
    with pytest.raises(SpecError, match=r'gates.language: "english" is not a language.*one of'):
        said("language", SENTENCES["en"], GatesSpec(language="english"))
