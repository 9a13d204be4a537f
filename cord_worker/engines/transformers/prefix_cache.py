"""Cache of the keys and values of earlier prompts, as a tree of pieces; least recently used leaves are dropped
first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cord_worker.engines.protocol import Ids
from cord_worker.engines.transformers.kv_slots import Segment


@dataclass(slots=True, eq=False)
class PrefixNode:
    """One piece of a prompt, after the pieces of its ancestors."""

    ids: Ids
    segment: Segment
    parent: PrefixNode | None
    children: dict[Ids, PrefixNode] = field(default_factory=dict)


class PrefixCache:
    """Finds the longest known prefix of a prompt, piece by piece. Not thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._bytes = 0
        self._roots: dict[Ids, PrefixNode] = {}
        self._recent: OrderedDict[PrefixNode, None] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory of the nodes, in bytes."""
        return self._bytes

    def match(self, pieces: Sequence[Ids]) -> list[PrefixNode]:
        """Nodes of the longest known prefix of `pieces`, first piece first."""
        found: list[PrefixNode] = []
        children = self._roots
        for piece in pieces:
            node = children.get(piece)
            if node is None:
                break
            found.append(node)
            children = node.children
        for node in reversed(found):  # ancestors stay more recent than descendants, so leaves are dropped first
            self._recent.move_to_end(node)
        return found

    def add(self, parent: PrefixNode | None, ids: Ids, segment: Segment) -> PrefixNode:
        """Stores `segment` as the piece `ids` after `parent`. Call `trim` when no match is in use."""
        siblings = self._roots if parent is None else parent.children
        known = siblings.get(ids)
        if known is not None:
            return known
        node = PrefixNode(ids, segment, parent)
        siblings[ids] = node
        self._recent[node] = None
        self._bytes += segment.nbytes
        while parent is not None:
            self._recent.move_to_end(parent)
            parent = parent.parent
        return node

    def trim(self) -> None:
        """Drops least recently used leaves until the bound holds."""
        while self._bytes > self._capacity and self._recent:
            node = next((node for node in self._recent if not node.children), None)
            if node is None:
                return
            siblings = self._roots if node.parent is None else node.parent.children
            del siblings[node.ids]
            del self._recent[node]
            self._bytes -= node.segment.nbytes
