"""How much of a foreign model is looked at before it is called a bomb. Each limit has a name that refusals tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one import. Real models stay far below the defaults, except in bytes of weights.

    Attributes:
        max_files: files of a source, before anything is unpacked.
        max_depth: directories within each other.
        max_bytes: bytes of a source, before anything is unpacked.
        max_members: members of one archive.
        max_archive_depth: archives within archives.
        max_unpacked_bytes: bytes of everything that is unpacked for a look, in all archives together.
        max_ratio: unpacked bytes for each packed one, where it is over `ratio_from_bytes`.
        ratio_from_bytes: below it a ratio says nothing: a few kilobytes of zeros pack very well.
        max_pickle_ops: opcodes of one pickle that are read.
        max_pickle_bytes: bytes of a pickle that the second opinions are asked of.
        max_document_bytes: bytes of a JSON, YAML or protobuf text that is parsed.
        max_document_depth: levels within each other in such a document.
        max_document_nodes: values of such a document, YAML's aliases not being allowed at all.
        max_nesting: brackets within each other in any document that lies in a model.
        max_message_depth: protobuf messages within each other.
        max_message_fields: protobuf fields of one file.
        max_header_bytes: bytes of a safetensors header; the format's own library has the same.
        max_tensors: tensors of one file.
        max_entries: key-value pairs of a GGUF header, and elements of an array in it.
        max_text_bytes: bytes of one string in a header.
        opinion_timeout_s: seconds that the second opinions may take, for all pickles together.
        opinion_memory_bytes: bytes of address space of the process that they run in.
    """

    max_files: int = 10_000
    max_depth: int = 32
    max_bytes: int = 4 << 40
    max_members: int = 100_000
    max_archive_depth: int = 3
    max_unpacked_bytes: int = 64 << 30
    max_ratio: int = 200
    ratio_from_bytes: int = 8 << 20
    max_pickle_ops: int = 5_000_000
    max_pickle_bytes: int = 256 << 20
    max_document_bytes: int = 64 << 20
    max_document_depth: int = 64
    max_document_nodes: int = 1_000_000
    max_nesting: int = 200
    max_message_depth: int = 48
    max_message_fields: int = 20_000_000
    max_header_bytes: int = 100_000_000
    max_tensors: int = 1_000_000
    max_entries: int = 10_000_000
    max_text_bytes: int = 64 << 20
    opinion_timeout_s: float = 60.0
    opinion_memory_bytes: int = 2 << 30


DEFAULT_LIMITS = Limits()
