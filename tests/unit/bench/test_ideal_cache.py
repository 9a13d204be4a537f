"""The tokens that an ideal prefix cache could have served."""

from __future__ import annotations

from cord_worker.bench.ideal_cache import CacheRequest, cache_use


def request(prompt: list[int], **more: object) -> CacheRequest:
    return CacheRequest("propose", prompt, **{"servable": len(prompt) - 1, "cached": 0, **more})  # type: ignore[arg-type]


def test_only_whole_blocks_of_an_earlier_prompt_are_found_again() -> None:
    use = cache_use([request([1, 2, 3, 4, 5]), request([1, 2, 3, 4, 6])], block_tokens=2)
    assert use["propose"].ideal == 4


def test_the_last_token_of_a_prompt_is_never_served() -> None:
    use = cache_use([request([1, 2, 3, 4]), request([1, 2, 3, 4])], block_tokens=2)
    assert use["propose"].ideal == 2


def test_a_block_is_served_only_if_all_blocks_before_it_are_equal() -> None:
    use = cache_use([request([1, 2, 3, 4, 5, 6]), request([9, 2, 3, 4, 5, 6])], block_tokens=2)
    assert use["propose"].ideal == 0


def test_generated_text_stays_in_the_cache_after_its_prompt() -> None:
    use = cache_use([request([1, 2], generated=[3, 4]), request([1, 2, 3, 4, 5])], block_tokens=2)
    assert use["propose"].ideal == 4


def test_for_a_score_nothing_is_served_from_the_answer_on() -> None:
    use = cache_use([request([1, 2, 3, 4, 5, 6]), request([1, 2, 3, 4, 5, 6], servable=3)], block_tokens=2)
    assert use["propose"].ideal == 2


def test_requests_that_do_not_count_fill_the_cache() -> None:
    use = cache_use([request([1, 2, 3], counted=False), request([1, 2, 3], cached=2)], block_tokens=2)
    assert use["propose"].requests == 1
    assert use["propose"].ratio == 1.0


def test_kinds_share_one_cache_and_are_counted_separately() -> None:
    score = CacheRequest("score", [1, 2, 3, 7], 3, cached=2)
    use = cache_use([request([1, 2, 3]), score], block_tokens=2)
    assert use["propose"].ideal == 0
    assert use["score"].ideal == 2


def test_without_anything_to_serve_there_is_no_ratio() -> None:
    assert cache_use([request([1, 2])], block_tokens=2)["propose"].ratio is None
