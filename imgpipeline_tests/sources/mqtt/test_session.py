"""Messages are acknowledged in the order of receipt, when their frames are safe, and only on their own connection."""

from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.sources.mqtt.session import Acknowledgements, MessageDelivery


def received(acknowledgements: Acknowledgements, number: int, *, redelivered: bool = False) -> MessageDelivery | None:
    return acknowledgements.receive(number, bytes([number]), redelivered=redelivered)


def test_an_acknowledgement_waits_for_those_of_earlier_messages():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    first, second, third = (received(acknowledgements, number) for number in (1, 2, 3))
    assert first
    assert second
    assert third
    acknowledgements.settle(third)
    acknowledgements.settle(second)
    assert sent == []
    acknowledgements.settle(first)
    assert sent == [1, 2, 3]


@given(st.permutations(range(20)))
def test_messages_are_acknowledged_in_the_order_of_receipt(order: list[int]):
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    deliveries = [received(acknowledgements, number) for number in range(20)]
    for index in order:
        delivery = deliveries[index]
        assert delivery
        acknowledgements.settle(delivery)
    assert sent == list(range(20))
    assert acknowledgements.waiting == 0


def test_the_number_of_an_old_connection_is_never_acknowledged_on_a_new_one():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    old = received(acknowledgements, 1)
    acknowledgements.start_connection()
    new = acknowledgements.receive(1, b"another message that has the number now", redelivered=False)
    assert old
    assert new
    acknowledgements.settle(old)
    assert sent == []
    acknowledgements.settle(new)
    assert sent == [1]


def test_a_redelivered_message_whose_frame_is_in_flight_is_not_a_second_frame():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    delivery = received(acknowledgements, 1)
    assert delivery
    acknowledgements.start_connection()
    assert received(acknowledgements, 1, redelivered=True) is None
    assert acknowledgements.waiting == 1
    acknowledgements.settle(delivery)
    assert sent == [1]


def test_two_messages_of_the_same_content_are_both_acknowledged():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    first = acknowledgements.receive(1, b"the same", redelivered=False)
    second = acknowledgements.receive(2, b"the same", redelivered=False)
    assert first
    assert second
    acknowledgements.settle(first)
    acknowledgements.settle(second)
    assert sent == [1, 2]
