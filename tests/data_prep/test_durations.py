from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm.data_prep.durations import durations_to_frames

SECONDS = st.lists(st.floats(0, 2), min_size=1, max_size=40)


@given(SECONDS, st.integers(0, 400), st.floats(12.5, 100))
def test_every_symbol_has_a_frame_and_the_sum_is_the_recording(durations, num_frames, rate):
    frames = durations_to_frames(durations, num_frames, rate)
    if num_frames < len(durations):
        assert frames == []
    else:
        assert len(frames) == len(durations)
        assert min(frames) >= 1
        assert sum(frames) == num_frames


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_whole_frames_stay_as_they_are(frames):
    assert durations_to_frames([count / 50 for count in frames], sum(frames), 50) == frames


@settings(max_examples=60)
@given(st.lists(st.floats(0, 0.1), min_size=2, max_size=5), st.integers(5, 8))
def test_no_other_choice_of_boundaries_is_nearer(durations, num_frames):
    rate = 50.0
    ends = [min(sum(durations[: i + 1]) * rate, num_frames) for i in range(len(durations) - 1)]

    def distance(edges):
        return sum((edge - end) ** 2 for edge, end in zip(edges, ends, strict=True))

    found = durations_to_frames(durations, num_frames, rate)
    edges = [sum(found[: i + 1]) for i in range(len(found) - 1)]
    best = min(distance(edges) for edges in combinations(range(1, num_frames), len(ends)))
    assert distance(edges) <= best + 1e-9


def test_without_durations_there_is_no_alignment():
    assert durations_to_frames([], 10, 50) == []
