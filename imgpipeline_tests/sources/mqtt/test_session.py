"""Messages are acknowledged in the order of receipt, when their frames are safe, and only on their own connection."""

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.sources.mqtt.session import Acknowledgements, MessageDelivery


def received(acknowledgements: Acknowledgements, number: int, payload: bytes = b"") -> MessageDelivery:
    delivery = acknowledgements.receive(number, payload or bytes([number]), redelivered=False)
    assert delivery
    return delivery


@given(st.permutations(range(20)))
def test_messages_are_acknowledged_in_the_order_of_receipt(order):
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    deliveries = [received(acknowledgements, number) for number in range(20)]
    for index in order:
        acknowledgements.settle(deliveries[index])
        settled = {*order[: order.index(index) + 1]}
        assert sent == list(takewhile(settled.__contains__, range(20))), "one waits for those of earlier messages"
    assert sent == list(range(20))
    assert acknowledgements.waiting == 0


def test_the_number_of_an_old_connection_is_never_acknowledged_on_a_new_one():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    old = received(acknowledgements, 1)
    acknowledgements.start_connection()
    new = received(acknowledgements, 1, b"another message that has the number now")
    acknowledgements.settle(old)
    assert sent == []
    acknowledgements.settle(new)
    assert sent == [1]


def test_a_redelivered_message_whose_frame_is_in_flight_is_not_a_second_frame():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    delivery = received(acknowledgements, 1)
    acknowledgements.start_connection()
    assert acknowledgements.receive(1, bytes([1]), redelivered=True) is None
    assert acknowledgements.waiting == 1
    acknowledgements.settle(delivery)
    assert sent == [1]


def test_two_messages_of_the_same_content_are_both_acknowledged():
    sent: list[int] = []
    acknowledgements = Acknowledgements(sent.append)
    for delivery in [received(acknowledgements, number, b"the same") for number in (1, 2)]:
        acknowledgements.settle(delivery)
    assert sent == [1, 2]
