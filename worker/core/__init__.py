"""The guarantee: every user who was asked for ends in a state, and nobody is reported as enrolled with a stale secret.

It rests on an order of writes that is never left (``pipeline``): the claim before the call, the sealed secret before
its delivery, the delivery before the verification, the outcome before the acknowledgement of the message. And on one
conditional write (``ports.Ledger``): a worker that was overtaken cannot change a user's row any more. What cannot be
known, such as whether a call whose reply was lost issued a secret, is recorded as a doubt. Only a newer secret clears
it. Without one the user is never reported as enrolled: the outcome is "sign in again", or "failed" where the attempts
were used up.

Three words: a *lease* hides a message on the queue from other workers. A *claim* on a user's row gives one worker the
right to call, until its lease is over. A call without an answer may still take a *late effect* at Cognito, for one more
call time-out at the most, so others wait that long.

Read ``model``, ``rules``, ``ports``, ``pipeline`` and ``call``, in this order; then ``sign_in`` and ``activation``.
"""
