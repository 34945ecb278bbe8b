"""A batch waits for as many requests as come: more are tried now and then, and who is alone waits for nobody."""

from slurm_tf.serve.replica.expected_requests import ExpectedRequests


def after(clients: int, batches: int, expected: ExpectedRequests) -> list[int]:
    """Return what is expected after each of some batches of clients that all ask again at once."""
    found = []
    for _ in range(batches):
        expected.called(min(clients, expected.number))
        found.append(expected.number)
    return found


def test_a_client_alone_is_never_waited_for() -> None:
    assert after(1, 100, ExpectedRequests()) == [1] * 100


def test_more_clients_are_found_and_fewer_too() -> None:
    expected = ExpectedRequests()
    expected.another()
    assert max(after(10, 100, expected)) >= 10
    assert after(10, 3, expected)[-1] >= 5
    assert after(1, 10, expected)[-1] == 1


def test_two_clients_are_tried_as_four_once_in_a_while() -> None:
    expected = ExpectedRequests()
    expected.another()
    found = after(2, 170, expected)
    assert 0 < found.count(4) <= 10
    assert set(found) == {2, 4}
