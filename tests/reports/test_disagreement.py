"""Where strategies disagree on a set without labels."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from effft.reports.disagreement import Disagreement, disagreement_csv

SIZE = 6
RUN = st.lists(st.sampled_from("abc"), min_size=SIZE, max_size=SIZE)
ANSWERS = st.dictionaries(st.sampled_from(["lora", "icl", "probe"]), st.lists(RUN, min_size=1, max_size=3), min_size=2)


@given(ANSWERS)
def test_a_disagreement_is_a_share_and_of_two_sides(answers: dict[str, list[list[str]]]) -> None:
    one = Disagreement("ood/x", range(SIZE), answers)
    for (a, b), share in one.pairs.items():
        assert 0 <= share <= 1
        assert abs(share - Disagreement("ood/x", range(SIZE), {b: answers[b], a: answers[a]}).pairs[b, a]) < 1e-12
        if answers[a] == answers[b] and len(answers[a]) == 1:
            assert share == 0
    most = one.most(3)
    shares = [share for _, share in most]
    assert shares == sorted(shares, reverse=True)
    assert all(share > 0 for share in shares)
    assert one.table().heads == ("strategy", *answers)


def test_the_text_on_which_more_runs_differ_comes_first() -> None:
    one = Disagreement("ood/x", (10, 11, 12), {"lora": ["aab", "aab"], "icl": ["aba"]})
    assert one.pairs == {("lora", "icl"): 2 / 3}
    assert one.most() == [(1, 1.0), (2, 1.0)]
    assert (one.answer("lora", 2), one.answer("icl", 2)) == ("b", "a")
    agreed = Disagreement("ood/x", (10,), {"lora": ["a"], "icl": ["a"]})
    assert disagreement_csv([agreed], {"ood/x": {10: ("text",)}}) == "set,row,disagreement,text\n"
    assert disagreement_csv([one], {"ood/x": dict.fromkeys((10, 11, 12), ("=1", "y"))}).splitlines()[1] == (
        "ood/x,11,1.0,'=1 | y,a,b"
    )
    assert [row[1:] for row in one.table().rows] == [["0 %", "67 %"], ["67 %", "-"]]


def test_a_text_with_a_line_end_of_any_kind_stays_in_its_row() -> None:
    one = Disagreement("ood/x", (0, 1, 2), {"lora": ["aaa"], "icl": ["bbb"]})
    texts = {0: ("old\rMac",), 1: ("DOS\r\nline",), 2: ("Unix\nline",)}
    lines = list(csv.DictReader(io.StringIO(disagreement_csv([one], {"ood/x": texts}), newline="")))
    assert [line["text"] for line in lines] == ["old\nMac", "DOS\nline", "Unix\nline"]
    assert [line["icl"] for line in lines] == ["b"] * 3
