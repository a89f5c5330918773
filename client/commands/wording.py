"""The words of the server and of the Python client as the command line says them: options for fields, commands for
requests.

One mapping, made of the options' own declarations in `options.py`. Only for what a terminal shows: `--json` keeps the
wire's words.
"""

import re

from .options import JOB_OPTIONS


def _option(field: str) -> str:
    """As it was declared, else from the field's name."""
    told = JOB_OPTIONS[field].__metadata__[0]
    names = [name for name in (told.default, *(told.param_decls or ())) if isinstance(name, str)]
    return next((name.partition("/")[0] for name in names if name.startswith("--")), f"--{field.replace('_', '-')}")


OPTIONS = {
    **{field: _option(field) for field in JOB_OPTIONS if "." not in field},
    "input_video": "FILE",
    "candidate": "--candidate",
    "api_key": "--api-key",
}
_PHRASES = (  # what other surfaces would do next
    (r"send (?:it as )?`Authorization: Bearer[^`]*`", "give it with --api-key or in MAGICVIDEO_API_KEY"),
    (r"`?GET /v1/videos`? lists those there are", "`magicvideo list` shows those there are"),
    (r"`?DELETE`? removes it", "`magicvideo delete` removes it"),
    (r"look with list, or send it again with idempotency_key='[^']*'", "look with `magicvideo list`"),
    (r"look with status or list", "look with `magicvideo list`"),
    (r"poll it until its status is completed", "add --wait, or look with `magicvideo status`"),
    (r"--url, base_url= or ", "--url or "),
    (r"; use input_video\.", "; use `magicvideo upscale` or `magicvideo interpolate`."),
    (r"; use input_reference\.", "; use `magicvideo generate --image`."),
)
_FIELD = re.compile(  # a name that no other text has, with its value; or any before "is": "the seed is -1"
    rf"(?<![\w'\"-])(?P<name>{'|'.join(sorted(name for name in OPTIONS if '_' in name))})\b(?:=(?P<value>\w+))?"
    rf"|(?:\b[Tt]he )?(?<!' )(?<![\w'\"-])(?P<word>{'|'.join(sorted(name for name in OPTIONS if '_' not in name))})"
    r"(?= is |: )"
)


def in_words(sentence: str) -> str:
    """The sentence as it is told in a shell."""
    for pattern, said in _PHRASES:
        sentence = re.sub(pattern, said, sentence)

    def option(found: re.Match[str]) -> str:
        value = f" {found['value']}" if found["value"] else ""
        return OPTIONS[found["name"] or found["word"]] + value

    return _FIELD.sub(option, sentence)
