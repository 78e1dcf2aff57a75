"""The words of a PDF, page by page, as pdfium finds them."""

from __future__ import annotations

from typing import Any, Final

from ..errors import FailedPrecondition, JsonObject, MediaRejected

MOST_PAGES: Final = 500


def read_pdf(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """`pages` in the facts, and the text of the first 500 as a blob of at most `most` characters in UTF-8.

    A page ends with a form feed. FailedPrecondition without the extra, MediaRejected for what cannot be opened.
    """
    try:
        import pypdfium2
    except ImportError:
        raise FailedPrecondition("The text of a PDF needs an extra.", hint="pip install 'kheish-mcp[docs]'") from None
    try:
        document = pypdfium2.PdfDocument(blobs[0])
        text = _text(document, int(str(parameters["most"])))
        return {"pages": len(document)}, (text.encode(errors="replace"),)
    except pypdfium2.PdfiumError:
        raise MediaRejected("The PDF cannot be opened.", hint="It may be damaged, or locked by a password.") from None


def _text(document: Any, most: int) -> str:
    """The pages' text up to `most` characters."""
    pages: list[str] = []
    for number in range(min(len(document), MOST_PAGES)):
        pages.append(document[number].get_textpage().get_text_bounded().replace("\r\n", "\n") + "\f")
        most -= len(pages[-1])
        if most <= 0:
            break
    text = "".join(pages)
    return text if most >= 0 else text[:most]
