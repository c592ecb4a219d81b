"""Links the kernels' object into a shared library, so that a start with a warm cache needs neither Numba nor llvmlite.

``shared`` takes what ``build.emit`` makes (a relocatable ELF object without undefined symbols, x86-64 or ARM64) and
returns the bytes of a library that ``dlopen`` takes; ``library.py`` keeps them in the cache. A device has no linker
and llvmlite brings none; its MCJIT would do, and costs 50 MB of memory and 90 ms at every start. The object has few
kinds of relocations: any other raises LinkError, and the caller stays with the object and MCJIT.

Layout: one segment to read and execute (headers, symbols, code, constants), one to write while the loader
works (the table of kernels, whose addresses it fills in, and the dynamic section), read-only after that; behind it
the table of Python's addresses, which native_call.py fills.
The section headers are for people: with them ``perf`` and ``objdump`` name the kernels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Machine number in the ELF header -> (largest page of its systems, its relocation "base address + addend").
_MACHINES = {62: (0x1000, 8), 183: (0x10000, 1027)}
_SECTION, _SYMBOL, _RELA, _SEGMENT, _DYNAMIC = "<IIQQQQIIQQ", "<IBBHQQ", "<QQq", "<IIQQQQQQ", "<qQ"
_HEADER_SIZE, _SEGMENT_SIZE, _SYMBOL_SIZE, _RELA_SIZE = 64, 56, 24, 24
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4  # flags of a section
_SYMTAB, _RELA_TABLE, _NOBITS = 2, 4, 8  # types of a section


class LinkError(Exception):
    """The object holds what this linker does not know. Not one of EdgeML's errors: no user sees it."""


@dataclass(slots=True)
class _Section:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    address: int = 0  # in the library, of the sections that are loaded


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: bytes
    info: int
    section: int
    value: int
    size: int


def shared(data: bytes) -> bytes:
    """The object as a shared library that exports its global symbols. Raises LinkError."""
    machine = struct.unpack_from("<H", data, 18)[0] if len(data) >= _HEADER_SIZE else 0
    if data[:6] != b"\x7fELF\x02\x01" or machine not in _MACHINES:
        raise LinkError("no 64-bit little-endian ELF object of x86-64 or ARM64")
    page, relative = _MACHINES[machine]
    sections = _sections(data)
    symbols = _symbols(data, sections)
    exported = [symbol for symbol in symbols if symbol.info >> 4 == 1]
    fixups = [fixup for section in sections if section.kind == _RELA_TABLE for fixup in _relas(data, section)]
    loaded = [s for s in sections if s.flags & _ALLOC and s.size]
    fixed = [s for s in loaded if not s.flags & _WRITE]
    written = [s for s in loaded if s.flags & _WRITE and s.kind != _NOBITS]
    zeros = [s for s in loaded if s.flags & _WRITE and s.kind == _NOBITS]
    code = next((section for section in fixed if section.flags & _EXECUTE), None)
    if code is None or any(section.kind == _NOBITS for section in fixed):
        raise LinkError("the object has no code")

    # --- the first segment: offsets in the file are the addresses
    names = b"\0" + b"".join(symbol.name + b"\0" for symbol in exported)
    symbol_count, pointer_count = len(exported) + 1, sum(kind in (1, 257) for _, _, kind, _, _ in fixups)
    at = _HEADER_SIZE + 5 * _SEGMENT_SIZE
    hash_at = at
    symbols_at = _aligned(hash_at + 4 * (3 + symbol_count), 8)
    relas_at = symbols_at + _SYMBOL_SIZE * symbol_count
    names_at = relas_at + _RELA_SIZE * pointer_count
    end = names_at + len(names)
    for section in fixed:
        section.address = end = _aligned(end, section.align)
        end += section.size
    # --- the second: a page further, so that no page is in both
    data_at = end = _aligned(end, 64)
    for section in written:
        section.address = _aligned(end + page, section.align)
        end = section.address - page + section.size
    dynamic_at = _aligned(end, 8)
    dynamic = [(4, hash_at), (5, names_at), (10, len(names)), (6, symbols_at), (11, _SYMBOL_SIZE)]
    dynamic += [(7, relas_at), (8, _RELA_SIZE * pointer_count), (9, _RELA_SIZE)] if pointer_count else []
    dynamic.append((0, 0))
    end = dynamic_at + 16 * len(dynamic)
    # --- behind it, on pages of their own that stay writable: variables that begin as zeros
    start = last = _aligned(end + page, page)
    for section in zeros:
        section.address = _aligned(last, section.align)
        last = section.address + section.size

    image = bytearray(end)
    for section in fixed:
        image[section.address : section.address + section.size] = data[section.offset : section.offset + section.size]
    for section in written:
        at = section.address - page
        image[at : at + section.size] = data[section.offset : section.offset + section.size]
    pointers = _relocate(image, machine, page, sections, symbols, fixups)

    # One bucket, a chain through all symbols: the loader looks up two of them.
    chain = [*range(2, symbol_count), 0] if symbol_count > 1 else []
    struct.pack_into(f"<{3 + symbol_count}I", image, hash_at, 1, symbol_count, min(1, len(chain)), 0, *chain)
    name = 1
    for number, symbol in enumerate(exported, 1):
        address = sections[symbol.section].address + symbol.value
        # 3 is .text for the tools; the loader asks only that it be neither "undefined" nor "absolute".
        entry = (name, symbol.info, 0, 3, address, symbol.size)
        struct.pack_into(_SYMBOL, image, symbols_at + _SYMBOL_SIZE * number, *entry)
        name += len(symbol.name) + 1
    for number, (where, value) in enumerate(pointers):
        struct.pack_into(_RELA, image, relas_at + _RELA_SIZE * number, where, relative, value)
    image[names_at : names_at + len(names)] = names
    for number, pair in enumerate(dynamic):
        struct.pack_into(_DYNAMIC, image, dynamic_at + 16 * number, *pair)
    data_size, read_only = end - data_at, start - data_at - page
    segments = [
        (1, 5, 0, 0, 0, data_at, data_at, page),  # PT_LOAD, read and execute
        (1, 6, data_at, data_at + page, data_at + page, data_size, last - data_at - page, page),  # PT_LOAD, and write
        (2, 6, dynamic_at, dynamic_at + page, dynamic_at + page, 16 * len(dynamic), 16 * len(dynamic), 8),  # PT_DYNAMIC
        (0x6474E552, 4, data_at, data_at + page, data_at + page, data_size, read_only, 1),  # PT_GNU_RELRO
        (0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK: not to be executed
    ]
    for number, segment in enumerate(segments):
        struct.pack_into(_SEGMENT, image, _HEADER_SIZE + _SEGMENT_SIZE * number, *segment)

    # --- section headers, and the header of the file
    titles = b"\0.dynsym\0.dynstr\0.text\0.shstrtab\0"
    titles_at = len(image)
    table_at = _aligned(titles_at + len(titles), 8)
    image += titles + bytes(table_at - titles_at - len(titles))
    for header in (
        (0,) * 10,
        (1, 11, _ALLOC, symbols_at, symbols_at, _SYMBOL_SIZE * symbol_count, 2, 1, 8, _SYMBOL_SIZE),
        (9, 3, _ALLOC, names_at, names_at, len(names), 0, 0, 1, 0),
        (17, 1, _ALLOC | _EXECUTE, code.address, code.address, code.size, 0, 0, 16, 0),
        (23, 3, 0, 0, titles_at, len(titles), 0, 0, 1, 0),
    ):
        image += struct.pack(_SECTION, *header)
    facts = (3, machine, 1, 0, _HEADER_SIZE, table_at, 0, _HEADER_SIZE, _SEGMENT_SIZE, len(segments), 64, 5, 4)
    image[:_HEADER_SIZE] = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *facts)
    return bytes(image)


def _aligned(at: int, by: int) -> int:
    return -(-at // max(by, 1)) * max(by, 1)


# --- reading the object -------------------------------------------------------------------------------------
def _sections(data: bytes) -> list[_Section]:
    at, size, count = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58)
    found = []
    for number in range(count):
        _, kind, flags, _, offset, length, link, info, align, _ = struct.unpack_from(_SECTION, data, at + size * number)
        found.append(_Section(kind, flags, offset, length, link, info, align))
    return found


def _symbols(data: bytes, sections: list[_Section]) -> list[_Symbol]:
    tables = [section for section in sections if section.kind == _SYMTAB]
    if len(tables) != 1:
        raise LinkError("the object has no table of symbols")
    names_at, found = sections[tables[0].link].offset, []
    for at in range(tables[0].offset, tables[0].offset + tables[0].size, _SYMBOL_SIZE):
        name, info, _, section, value, size = struct.unpack_from(_SYMBOL, data, at)
        text = data[names_at + name : data.index(b"\0", names_at + name)]
        if section == 0 and text:
            raise LinkError(f"the object lacks {text.decode()}")
        if info >> 4 == 1 and section >= len(sections):
            raise LinkError(f"{text.decode()} lies in no section")
        found.append(_Symbol(text, info, section, value, size))
    return found


def _relas(data: bytes, table: _Section) -> list[tuple[int, int, int, int, int]]:
    """(section it patches, offset there, kind, symbol, addend) of each relocation."""
    found = []
    for at in range(table.offset, table.offset + table.size, _RELA_SIZE):
        offset, info, addend = struct.unpack_from(_RELA, data, at)
        found.append((table.info, offset, info & 0xFFFFFFFF, info >> 32, addend))
    return found


# --- relocations: S is the symbol's address, A the addend, P the place, as in the ABIs' documents --------------
def _relocate(
    image: bytearray,
    machine: int,
    page: int,
    sections: list[_Section],
    symbols: list[_Symbol],
    fixups: list[tuple[int, int, int, int, int]],
) -> list[tuple[int, int]]:
    """Patches the image; returns (place, address) of the pointers that the loader has to move."""
    pointers = []
    for into, offset, kind, number, addend in fixups:
        section, symbol = sections[into], symbols[number]
        if not section.flags & _ALLOC or symbol.section >= len(sections):
            raise LinkError("a relocation of what is not loaded")
        place = section.address + offset
        target = sections[symbol.section].address + symbol.value + addend
        at = place - page if section.flags & _WRITE else place
        if (machine, kind) in ((62, 1), (183, 257)):  # R_X86_64_64, R_AARCH64_ABS64: S + A
            if not section.flags & _WRITE:
                raise LinkError("an address among the constants")
            pointers.append((place, target))
        elif machine == 62 and kind in (2, 4):  # R_X86_64_PC32, PLT32: S + A - P
            struct.pack_into("<i", image, at, _within(target - place, 31))
        elif machine == 183:
            word = struct.unpack_from("<I", image, at)[0]
            struct.pack_into("<I", image, at, _arm64(kind, word, target, place))
        else:
            raise LinkError(f"relocation {kind}")
    return pointers


def _arm64(kind: int, word: int, target: int, place: int) -> int:
    """The instruction, or the word, with the address in it."""
    if kind == 261:  # R_AARCH64_PREL32: S + A - P
        return _within(target - place, 31) & 0xFFFFFFFF
    if kind in (282, 283):  # JUMP26, CALL26: S + A - P, in words
        return word & 0xFC000000 | _within(target - place, 27) >> 2 & 0x03FFFFFF
    if kind == 275:  # ADR_PREL_PG_HI21: the page of S + A less that of P
        pages = _within((target & ~0xFFF) - (place & ~0xFFF), 32) >> 12
        return word & 0x9F00001F | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    shifts = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # ADD and LDST8 to LDST128: the low 12 bits of S + A
    if kind in shifts:
        return word & 0xFFC003FF | ((target & 0xFFF) >> shifts[kind]) << 10
    raise LinkError(f"relocation {kind}")


def _within(distance: int, bits: int) -> int:
    if not -(1 << bits) <= distance < 1 << bits:
        raise LinkError("a distance that does not fit")
    return distance
