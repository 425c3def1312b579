"""Messages that fail: the channel through which the one scalar of a handoff goes from receiver to sender (D9).

In this file the *sender* of a message is the agent that offers, the one that has just been handed to. A ``Channel`` is
a pytree of traced numbers, so that one compiled training can be vmapped over a sweep of channels. It starts as
``clean(num_agents, bounds)``, and each method returns a copy with one fault more::

    clean(10, model_value_range(model)).dropping(0.1).quantised(4).clipped()

The order in which faults act is that of a message on its way, whatever the order of the methods:

1. attack: a sender that is an adversary replaces its offer,
2. levels: the sender's encoder rounds it to the nearest level (or to one of the two next to it at random),
3. noise: the wire adds to it,
4. lateness: it waits until ``late`` more messages have been sent in its environment, and another one arrives now,
5. loss: what arrives may be lost,
6. clipping: the receiver clips it to the range that it believes possible.

What a fault costs tabular IC-Q, as long as the value range holds all values. Noise without clipping and random rounding
do not change the mean of what arrives, nor the fixed point. Rounding to the nearest level moves it by at most
``message_error_bound`` of half a step; with clipping, nothing moves it by more than ``gamma_bar`` times the width of
the range. A late message was meant for another segment, and is wrong by however much values differ. A lost message
costs one update and nothing else where episodes do not end; where a pair ``(z, o)`` may end an episode or go on, the
segments that end it are never lost, weigh more than they should, and move the fixed point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.learner.message_bounds import ValueRange

HONEST, HIGH, LOW, NEGATE = range(4)
ATTACKS = {"high": HIGH, "low": LOW, "negate": NEGATE}
FINEST = 16  # bits; a float32 has no room for more levels that are told apart reliably


class Channel(NamedTuple):
    """All faults of a channel, each as traced numbers; see the module docstring for their order.

    Attributes:
      low: ``[]`` float32 lower end of the a-priori value range; NaN if none was given.
      high: ``[]`` float32 upper end.
      adversary: ``[N]`` bool, agents whose offers are replaced.
      attack: ``[]`` int32, what they send: ``HONEST``, ``HIGH``, ``LOW`` or ``NEGATE``.
      excess: ``[]`` float32, how far outside the range ``HIGH`` and ``LOW`` are, in widths of the range.
      levels: ``[]`` float32 number of levels, evenly spaced over the range, both ends among them; 0 for no rounding.
      random_rounding: ``[]`` bool, whether rounding is random and unbiased instead of to the nearest level.
      noise: ``[]`` float32 standard deviation of Gaussian noise, in widths of the range.
      lateness: ``[]`` int32 number of messages by which each is late.
      loss: ``[]`` float32 probability that a message is lost.
      clip_low: ``[]`` float32 least value that the receiver believes; minus infinity for no clipping.
      clip_high: ``[]`` float32 largest value.
    """

    low: chex.Array
    high: chex.Array
    adversary: chex.Array
    attack: chex.Array
    excess: chex.Array
    levels: chex.Array
    random_rounding: chex.Array
    noise: chex.Array
    lateness: chex.Array
    loss: chex.Array
    clip_low: chex.Array
    clip_high: chex.Array

    def dropping(self, p: Any) -> Channel:
        """Each message is lost with probability ``p``, independently of all else; ValueError outside ``[0, 1]``."""
        _check(p, 0, 1, "p")
        return self._replace(loss=_float(p))

    def noisy(self, sigma: Any) -> Channel:
        """Gaussian noise of mean 0 and standard deviation ``sigma`` times the width of the value range.

        Raises:
          ValueError: if sigma is negative or the channel has no value range.
        """
        _check(sigma, 0, np.inf, "sigma")
        return self._with_range()._replace(noise=_float(sigma))

    def quantised(self, bits: Any, unbiased: Any = False) -> Channel:
        """``2^bits`` evenly spaced levels over the value range; offers outside become its ends first.

        Args:
          bits: a whole number from 1 to ``FINEST``; may be traced.
          unbiased: whether the level is drawn from the two around the offer, with the offer as its mean.

        Raises:
          ValueError: if bits is not such a number or the channel has no value range.
        """
        _check(bits, 1, FINEST, "bits", whole=True)
        levels = jnp.ldexp(jnp.float32(1), jnp.asarray(bits).astype(jnp.int32))
        return self._with_range()._replace(levels=levels, random_rounding=jnp.asarray(unbiased, bool))

    def late(self, k: Any) -> Channel:
        """What arrives is the message sent ``k`` messages earlier in that environment; nothing until there is one.

        Args:
          k: whole number, at most ``longest`` of the ``History``, or nothing ever arrives; may be traced.

        Raises:
          ValueError: if k is negative or not whole.
        """
        _check(k, 0, np.inf, "k", whole=True)
        return self._replace(lateness=jnp.asarray(k).astype(jnp.int32))

    def adversarial(self, agents: Any, attack: str | chex.Array, excess: Any = 0.0) -> Channel:
        """The given agents lie in every message.

        Args:
          agents: ``[N]`` bool.
          attack: ``"high"`` (the upper end of the value range), ``"low"`` (the lower end), ``"negate"`` (minus the
            offer), or one of the codes of this module as an array.
          excess: how far beyond the end the first two go, in widths of the range.

        Raises:
          ValueError: if the attack is unknown, excess negative, agents not one bool per agent, or there is no range.
        """
        if isinstance(attack, str) and attack not in ATTACKS:
            raise ValueError(f"attack = {attack!r}: expected one of {', '.join(ATTACKS)}")
        _check(excess, 0, np.inf, "excess")
        adversary = jnp.asarray(agents)
        if adversary.shape != self.adversary.shape or adversary.dtype != bool:
            raise ValueError(f"agents: {adversary.dtype} {adversary.shape}, expected bool {self.adversary.shape}")
        code = jnp.int32(ATTACKS[attack]) if isinstance(attack, str) else attack.astype(jnp.int32)
        return self._with_range()._replace(adversary=adversary, attack=code, excess=_float(excess))

    def clipped(self, low: Any = None, high: Any = None) -> Channel:
        """The receiver clips to ``[low, high]``, by default the value range; NaN counts as not delivered.

        Raises:
          ValueError: if low is above high, or neither they nor a value range are given.
        """
        if low is None or high is None:
            self._with_range()
        ends = _float(self.low if low is None else low), _float(self.high if high is None else high)
        if not any(isinstance(end, jax.core.Tracer) for end in ends) and not bool(jnp.all(ends[0] <= ends[1])):
            raise ValueError(f"clipping to [{ends[0]}, {ends[1]}]: expected ends in order")
        return self._replace(clip_low=ends[0], clip_high=ends[1])

    def _with_range(self) -> Channel:
        if not isinstance(self.low, jax.core.Tracer) and bool(jnp.any(jnp.isnan(self.low))):
            raise ValueError("the channel has no value range: give one to clean()")
        return self


class History(NamedTuple):
    """The latest messages of one environment, for late delivery; leading batch axes as in the offers.

    Attributes:
      messages: ``[..., longest + 1]`` float32 as they were on the wire, the newest first.
      count: ``[...]`` int32 number of them that are real, at most ``longest + 1``.
    """

    messages: chex.Array
    count: chex.Array


def clean(num_agents: int, bounds: ValueRange | tuple[Any, Any] | None = None) -> Channel:
    """The perfect channel: every message arrives at once, bit for bit.

    Args:
      num_agents: ``N``.
      bounds: a-priori value range; noise, levels and attacks need it as their unit. May be traced.

    Raises:
      ValueError: if the range is empty or not finite.
    """
    low, high = (np.nan, np.nan) if bounds is None else bounds
    ends = (low, high)
    if bounds is not None and not any(isinstance(end, jax.core.Tracer) for end in ends):
        if not np.all(np.isfinite(ends)) or np.any(np.asarray(low) >= np.asarray(high)):
            raise ValueError(f"value range [{low}, {high}]: expected finite ends, the lower one below")
    return Channel(
        low=_float(low),
        high=_float(high),
        adversary=jnp.zeros(num_agents, bool),
        attack=jnp.int32(HONEST),
        excess=_float(0),
        levels=_float(0),
        random_rounding=jnp.bool_(False),
        noise=_float(0),
        lateness=jnp.int32(0),
        loss=_float(0),
        clip_low=_float(-np.inf),
        clip_high=_float(np.inf),
    )


def new_history(shape: int | tuple[int, ...] = (), longest: int = 0) -> History:
    """An empty history.

    Args:
      shape: shape of the offers of one step, for instance the number of environments.
      longest: static; largest ``lateness`` of any channel that it is used with.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    return History(jnp.zeros((*shape, longest + 1), jnp.float32), jnp.zeros(shape, jnp.int32))


def transmit(
    key: chex.PRNGKey,
    offers: chex.Array,
    senders: chex.Array,
    history: History,
    channel: Channel,
    sent: chex.Array | None = None,
) -> tuple[chex.Array, chex.Array, History]:
    """Sends one offer in each environment at one handoff; environments do not affect each other.

    Args:
      key: random key.
      offers: ``[...]`` float32, in practice ``[B]``: one for each environment.
      senders: ``[...]`` int32, the agent that offers.
      history: what these environments have sent so far.
      channel: the channel.
      sent: ``[...]`` bool, False where there is no message, that is where the discount is 0; all True if None.

    Returns:
      ``received`` (``[...]`` float32; 0 where nothing arrived), ``delivered`` (``[...]`` bool; False where the agent
      that waits receives nothing and makes no update) and the new history. Where ``sent`` is False there is nothing to
      wait for: ``delivered`` is True, ``received`` the offer as it was (for a discount of 0), the history as before.
    """
    chex.assert_equal_shape([offers, senders, history.count])
    chex.assert_type([offers, history.messages], jnp.float32)
    sent = jnp.ones(offers.shape, bool) if sent is None else sent
    key_round, key_noise, key_loss = jax.random.split(key, 3)
    message = _attacked(offers, senders, channel)
    message = _rounded(jax.random.uniform(key_round, offers.shape, jnp.float32), message, channel)
    # Selected, not scaled by 0: adding 0 would change the bits of a negative zero.
    disturbance = channel.noise * (channel.high - channel.low) * jax.random.normal(key_noise, offers.shape, jnp.float32)
    message = jnp.where(channel.noise > 0, message + disturbance, message)

    newest_first = jnp.concatenate([message[..., None], history.messages[..., :-1]], axis=-1)
    length = newest_first.shape[-1]
    count = jnp.minimum(history.count + 1, length)
    arriving = jnp.take(newest_first, jnp.minimum(channel.lateness, length - 1), axis=-1)
    delivered = (count > channel.lateness) & (jax.random.uniform(key_loss, offers.shape, jnp.float32) >= channel.loss)

    clips = (channel.clip_low > -jnp.inf) | (channel.clip_high < jnp.inf)
    delivered &= ~(clips & jnp.isnan(arriving))
    believed = (arriving >= channel.clip_low) & (arriving <= channel.clip_high)
    arriving = jnp.where(believed, arriving, jnp.clip(arriving, channel.clip_low, channel.clip_high))
    received = jnp.where(sent, jnp.where(delivered, arriving, 0.0), offers)
    after = History(
        messages=jnp.where(sent[..., None], newest_first, history.messages),
        count=jnp.where(sent, count, history.count),
    )
    return received, delivered | ~sent, after


def transmit_rollout(
    key: chex.PRNGKey,
    offers: chex.Array,
    senders: chex.Array,
    history: History,
    channel: Channel,
    sent: chex.Array | None = None,
) -> tuple[chex.Array, chex.Array, History]:
    """``transmit`` for ``T`` handoffs in a row: all arrays but the history have a leading axis ``T``, ``[T, B]``."""
    sent = jnp.ones(offers.shape, bool) if sent is None else sent

    def step(carry: History, row: tuple) -> tuple[History, tuple[chex.Array, chex.Array]]:
        key_t, offers_t, senders_t, sent_t = row
        received, delivered, carry = transmit(key_t, offers_t, senders_t, carry, channel, sent_t)
        return carry, (received, delivered)

    rows = (jax.random.split(key, offers.shape[0]), offers, senders, sent)
    history, (received, delivered) = jax.lax.scan(step, history, rows)
    return received, delivered, history


def _attacked(offers: chex.Array, senders: chex.Array, channel: Channel) -> chex.Array:
    """What leaves the senders: honest offers, or those of adversaries."""
    beyond = channel.excess * (channel.high - channel.low)
    lies = (offers, channel.high + beyond, channel.low - beyond, -offers)
    lie = jnp.select([channel.attack == code for code in range(len(lies))], lies, offers)
    return jnp.where(channel.adversary[senders], lie, offers)


def _rounded(uniform: chex.Array, message: chex.Array, channel: Channel) -> chex.Array:
    """The level that stands for a message: the nearest one, or one of its two neighbours, drawn with it as the mean."""
    width, last = channel.high - channel.low, channel.levels - 1
    position = (jnp.clip(message, channel.low, channel.high) - channel.low) / width * last
    below = jnp.floor(position)
    # The fraction is compared and not added to a random number: a sum would round where there are many levels.
    up = position - below > jnp.where(channel.random_rounding, uniform, 0.5)
    index = jnp.clip(below + up.astype(jnp.float32), 0, last)
    level = jnp.clip(channel.low + width * (index / last), channel.low, channel.high)
    return jnp.where(channel.levels > 0, level, message)


def _float(value: Any) -> chex.Array:
    return jnp.asarray(value, jnp.float32)


def _check(value: Any, low: float, high: float, name: str, whole: bool = False) -> None:
    """Raises ValueError unless the number is in its range; traced numbers are taken as they are."""
    if isinstance(value, jax.core.Tracer):
        return
    number = np.asarray(value)
    if not np.all((number >= low) & (number <= high)) or (whole and np.any(number != np.floor(number))):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} = {value}: expected {kind} between {low} and {high}")
