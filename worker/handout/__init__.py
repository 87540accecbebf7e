"""Handing secrets out: QR codes, letters and a CSV file of the records that ``open`` has opened, all of them private.

``hand_out`` leads; ``chosen`` says who is meant. ``codes``, ``letters`` and ``table`` each make one kind of output, in
files and folders of ``staged``, which appear whole or not at all. What takes time and memory, drawing QR codes and
setting letters, is done by child processes: ``drawing`` is their program and ``drawn`` asks them.
"""
