"""The guarantee: every user who was handed over ends with a state and a reason, and nobody with a stale secret.

It rests on an order of writes that is never left (``pipeline``): the claim before the call, the sealed secret before
its delivery, the outcome before the acknowledgement of the message. And on one conditional write (``ports.Ledger``): a
worker that was overtaken cannot change a user's row any more. What cannot be known, such as whether a call whose reply
was lost issued a secret, is recorded as a doubt and ends as "sign in again", never as "delivered".

Read ``model``, ``rules``, ``ports``, ``pipeline`` and ``call``, in this order.
"""
