"""Drops answers that decline to answer.

Patterns stand at the start of a short answer and name both the inability and the asked-for help, because a reply such as "I'm
sorry to hear that, let me help" is the very work of a support conversation. What a row itself says (a refusal to be translated
or summarised, a gold answer that declines) is not held against the teacher.
"""

from __future__ import annotations

import re

from potstill.data.rows import quote
from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "refusal"
VERSION = 3
LONGEST = 600
"""Characters; a longer answer gives more than a refusal."""

_SORRY = r"(?:(?:i am|i'm|we are|we're) (?:\w+ )?(?:sorry|afraid)|(?:so )?sorry|unfortunately|(?:my )?apologies|i apologi[sz]e)"
_CANNOT = (
    r"(?:(?:i|we) (?:\w+ly |just )?(?:can't|cannot|can not|won't|will not|am unable to|am not able to|won't be able to|will not be able to)"
    r"|(?:i'm|we're|we are) (?:\w+ly |just )?(?:unable to|not able to|not allowed to|not permitted to))"
)
_HELP = (
    r"(?:(?:help|assist)(?: you)?(?: with (?:that|this|it|such|requests?|your (?:request|question)|\w+ing)\b| (?:there|here)\b|[.,;!]|$)"
    r"|comply with|(?:fulfil|fulfill|complete|accommodate) (?:this|that|your|such) (?:\w+ )?request"
    r"|(?:answer|respond to|discuss|continue with) (?:that|this|your|such)\b"
    r"|(?:generate|create|write|produce|provide|engage (?:in|with)|offer) "
    r"(?:(?:that|this|such|any) )?(?:(?:kind|type|sort) of )?(?:harmful |explicit |sexual |illegal |offensive |hateful )?"
    r"(?:content|assistance|instructions|guidance|(?:legal|medical|financial) advice|conversations?)\b"
    r"|in good conscience)"
)
_DOES_NOT = r"(?:can't|cannot|do not|don't|am not able to|am unable to|will not|won't|must decline)\b"
_AS_AN_AI = r"as an? (?:ai|artificial intelligence|large language model|language model)\b[^.!?\n]{0,80}?"

_ENGLISH = (
    rf"(?:{_SORRY}[\s,.:;!-]*)?(?:but )?(?:{_AS_AN_AI}[\s,]*)?{_CANNOT} {_HELP}",
    rf"(?:{_SORRY}[\s,.:;!-]*)?(?:but )?{_AS_AN_AI}(?:i|we) {_DOES_NOT}",
    r"i (?:must|have to) (?:respectfully )?decline (?:to (?:answer|help|assist|write|provide)|(?:your|this|that) request)",
    r"(?:i am|i'm) not comfortable (?:with )?(?:answering|helping|writing|discussing|providing)",
)
_OTHERS = (
    r"(?:es )?tut mir (?:\w+ )?leid[\s,.]*(?:aber )?(?:(?:dabei|damit|das) kann ich|ich kann)[^.!?]{0,60}\b(?:nicht|keine?n?)\b[^.!?]{0,30}"
    r"(?:helfen|beantworten|unterstützen|erfüllen|bereitstellen|verfassen)",
    r"(?:dabei|damit) kann ich (?:dir |ihnen |euch )?(?:leider )?nicht (?:helfen|weiterhelfen|dienen)",
    r"(?:je suis )?(?:vraiment )?désolée?[\s,.]*(?:mais )?je ne (?:peux|suis) pas (?:en mesure de |capable de )?(?:vous |t')?"
    r"(?:aider|répondre|fournir|satisfaire|accéder|créer|générer)",
    r"(?:lo siento|lo lamento|disculpa)[\s,.]*(?:pero )?no puedo (?:ayudar|asistir|responder|cumplir|proporcionar|generar|crear)",
    r"(?:desculpe|sinto muito|lamento)[\s,.]*(?:mas )?(?:eu )?não posso (?:ajudar|responder|atender|fornecer|gerar|criar)",
    r"(?:mi dispiace|spiacente)[\s,.]*(?:ma )?non posso (?:aiutar|risponder|soddisfare|fornir|generare|creare)",
    r"(?:het spijt me|sorry)[\s,.]*(?:maar )?(?:ik kan|daar kan ik)[^.!?]{0,40}\bniet\b[^.!?]{0,20}(?:helpen|beantwoorden|voldoen)",
    r"(?:извините|простите|к сожалению|прошу прощения)[\s,.]*(?:но )?я не могу (?:помочь|ответить|выполнить|предоставить|создать)",
    r"(?:很|非常)?(?:抱歉|对不起|對不起)[,，。\s]*(?:但是?)?我(?:无法|不能|無法)(?:回答|提供|协助|帮助|满足|生成|協助|幫助)",
    r"申し訳(?:ありません|ございません)(?:が)?[、。,\s]*[^。]{0,40}(?:お答え|お手伝い|提供|回答|対応)[^。]{0,10}(?:できません|いたしかねます|できかねます)",
    r"죄송(?:하지만|합니다만?)[,.\s]*[^.]{0,40}(?:도와|답변|제공|도움)[^.]{0,15}(?:수 없습니다|어렵습니다)",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in (*_ENGLISH, *_OTHERS)))


def refusal(context: GateContext) -> Verdict:
    """Keep answers that answer. Codes: `declared` by the endpoint, `declines` in its words."""
    text = context.completion.text.strip()
    if context.completion.finish_reason == "refusal":
        return Verdict(NAME, False, f"the model refused in so many words: {quote(text)}", VERSION, "declared")
    if len(text) <= LONGEST and _REFUSAL.match(_plain(text)) and not _row_refuses(context):
        return Verdict(NAME, False, f"declines to answer: {quote(text)}", VERSION, "declines")
    return Verdict(NAME, True, version=VERSION)


def _row_refuses(context: GateContext) -> bool:
    asked = next((message.content for message in reversed(context.messages) if message.role == "user"), "")
    return any(_REFUSAL.search(_plain(text)) for text in (asked, *context.example.reference))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("’", "'").casefold()).lstrip("\"'*#> -")
