"""Multipart forms, held in memory: what is uploaded is never written to a disk, and a file's name is only shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from triptych.studio.limits import SCORED, Limits
from triptych.studio.problems import Problem


class _InMemory(MultiPartParser):
    spool_max_size = 2**31  # never to a temporary file: the whole body is bounded before it comes here


@dataclass
class Form:
    """The parts of a form: texts by name, and files as (name, bytes)."""

    texts: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    def text(self, name: str, most: int = 80) -> str:
        """A text that has to be there.

        Raises:
            Problem: where it is missing, or too long.
        """
        found = self.texts.get(name, "")
        if not found or len(found) > most:
            raise Problem(f"expected a field {name} of 1 to {most} characters, got {len(found)}")
        return found


async def read_form(request: Request) -> Form:
    """The form that a request sends.

    Raises:
        Problem: for a body that is not a form.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Problem("expected multipart/form-data with the fields model and file")
    parser = _InMemory(request.headers, request.stream(), max_files=SCORED, max_fields=8, max_part_size=4096)
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise Problem(f"the form cannot be read: {error.message.rstrip('.')}") from error
    form = Form()
    for name, value in parts.multi_items():
        if isinstance(value, UploadFile):
            form.files.append((_shown(value.filename), await value.read()))
        else:
            form.texts[name] = value
    await parts.close()
    return form


def _shown(name: str | None) -> str:
    """A file's name for people: its last part, printable, short."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:120] or "picture"


def form_docs(limits: Limits, files: str, **texts: str) -> dict[str, Any]:
    """What OpenAPI says of a form.

    Args:
        files: "file" for one, "files" for several.
        texts: fields by name, with what they are.
    """
    one = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {name: {"type": "string", "description": text} for name, text in texts.items()}
    properties[files] = one if files == "file" else {"type": "array", "items": one, "maxItems": SCORED}
    schema = {"type": "object", "properties": properties, "required": ["model"]}
    size = limits.upload if files == "file" else limits.folder
    said = f"At most {size >> 20} MiB, held in memory."
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"description": said, "required": True, "content": content}}
