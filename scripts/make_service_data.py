#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes examples/data/quillon/{train,test}.jsonl: what a service desk knows about a machine that does not exist.

Facts and wordings are written by hand below; the script combines them, always in the same way. Every fact is asked in TRAIN ways for
training and in TEST other ways for testing. A wording for testing is used for no fact in training.

    python3 scripts/make_service_data.py [folder]
"""
import json
import math
import sys
from pathlib import Path

TRAIN, TEST = 6, 2


class Kind:
    """Facts of one kind: `answer` and the wordings are templates over a fact's fields; `fact` names the field that an answer must contain."""

    def __init__(self, name, fields, fact, answer, facts, train, test):
        self.name, self.fact, self.answer, self.train, self.test = name, fact, answer, train, test
        self.facts = [dict(zip(fields, values)) for values in facts]


ERRORS = Kind(
    "error", ("code", "cause"), "cause", "{code} means that the {cause}.",
    [
        ("E11", "drum thermocouple is broken"),
        ("E12", "exhaust probe is plugged in backwards"),
        ("E14", "burner flame went out"),
        ("E17", "gas pressure is too low"),
        ("E19", "ignition electrode is fouled"),
        ("E21", "drum motor is overloaded"),
        ("E23", "drum belt has slipped"),
        ("E26", "cooling paddle is jammed"),
        ("E28", "cooling fan has tripped its breaker"),
        ("E31", "discharge door did not close"),
        ("E33", "charge hopper is empty"),
        ("E35", "bean scale has lost its zero"),
        ("E38", "chaff drawer is full"),
        ("E42", "cyclone filter is clogged"),
        ("E44", "afterburner is too cold"),
        ("E47", "smoke damper is stuck"),
        ("E51", "quench valve is leaking"),
        ("E53", "safety gate is open"),
        ("E56", "control cabinet is too hot"),
        ("E59", "recipe memory is corrupted"),
    ],
    [
        "What does error {code} mean?",
        "My roaster shows {code}. What is wrong?",
        "The display says {code}. Why?",
        "What causes {code} on the Quillon RX-60?",
        "{code} came up in the middle of a roast. What happened?",
        "Why did my RX-60 stop with {code}?",
        "Can you explain code {code}?",
        "I keep getting {code}. What is the reason?",
        "Tell me the cause of fault {code}.",
        "We have {code} on the panel this morning. What is the problem?",
        "What does {code} stand for?",
        "Please look up {code} for me.",
        "The Quillon reports {code}. What has failed?",
        "Error {code}, what is that?",
    ],
    [
        "My machine shows {code}.",
        "What is the meaning of {code} on the screen?",
        "The roaster halted with {code}. What is the matter with it?",
        "Which problem is behind the code {code}?",
        "A customer calls about {code}. What do I tell him?",
        "Our RX-60 is down, and all it says is {code}. What went wrong?",
    ])

WARNINGS = Kind(
    "warning", ("code", "remedy"), "remedy", "To clear {code}, {remedy}.",
    [
        ("W02", "purge the gas line for 40 seconds"),
        ("W05", "wipe the flame sensor with alcohol"),
        ("W08", "empty the stone catcher"),
        ("W13", "turn the drum half a turn by hand"),
        ("W16", "recalibrate the load cell"),
        ("W22", "restart the fan inverter"),
        ("W24", "tighten the left drive chain"),
        ("W27", "replace the door gasket"),
        ("W32", "drain the quench tank"),
        ("W36", "blow out the pilot nozzle"),
        ("W41", "swap the two hopper cables"),
        ("W48", "reload the recipe card"),
    ],
    [
        "How do I clear {code}?",
        "What should I do about warning {code}?",
        "The panel shows {code}. How do I get rid of it?",
        "{code} is blinking. What do I have to do?",
        "Which step resolves {code} on the RX-60?",
        "How is warning {code} reset on the Quillon?",
        "I see {code}. What is the remedy?",
        "Tell me how to fix {code}.",
        "My roaster warns me with {code}. What now?",
        "What is the procedure for {code}?",
        "What helps against {code}?",
        "We got {code} after cleaning. What must be done?",
    ],
    [
        "What makes {code} go away?",
        "Warning {code} will not disappear. What can I do?",
        "How should the operator react to {code}?",
        "There is a {code} on my RX-60. How do I solve it?",
        "{code} is on the display. Which action does it need?",
    ])

PARTS = Kind(
    "part", ("part", "number"), "number", "The part number of the {part} is {number}.",
    [
        ("door gasket", "QX-1183"),
        ("drum belt", "QX-2047"),
        ("flame sensor", "QX-2590"),
        ("ignition electrode", "QX-3316"),
        ("sampling spoon", "QX-4402"),
        ("sight glass", "QX-5178"),
        ("cyclone filter", "QX-6625"),
        ("pilot nozzle", "QX-7031"),
        ("load cell", "QX-8854"),
        ("quench valve", "QX-9467"),
    ],
    [
        "What is the part number of the {part}?",
        "Which part number does the {part} have?",
        "I need to order a new {part}. What is its number?",
        "Give me the order number for the {part}.",
        "Under which number can I buy a {part} for the RX-60?",
        "My {part} is worn out. Which spare part do I order?",
        "What number do I quote for a {part}?",
        "Look up the {part} in the spare parts list.",
        "Which spare part is the {part} of the Quillon RX-60?",
        "The {part} broke. What is the number of the replacement?",
    ],
    [
        "How is the {part} listed in the parts catalogue?",
        "I want to replace the {part}. What do I have to order?",
        "Could you find me the part number for an RX-60 {part}?",
        "Someone is asking for a spare {part}. Which number is it?",
    ])

TORQUES = Kind(
    "torque", ("bolts", "torque"), "torque", "Tighten the {bolts} to {torque}.",
    [
        ("drum bearing bolts", "62 Nm"),
        ("burner flange nuts", "18 Nm"),
        ("motor mount bolts", "45 Nm"),
        ("door hinge screws", "27 Nm"),
        ("fan hub screws", "11 Nm"),
        ("cyclone clamp bolts", "54 Nm"),
        ("cooling tray screws", "39 Nm"),
        ("chimney flange bolts", "83 Nm"),
    ],
    [
        "How tight should the {bolts} be?",
        "What is the torque for the {bolts}?",
        "Which torque do the {bolts} need?",
        "To how many newton metres do I tighten the {bolts}?",
        "I am refitting the {bolts}. What torque applies?",
        "What do I set my torque wrench to for the {bolts}?",
        "Give me the tightening torque of the {bolts}.",
        "How firmly are the {bolts} tightened on the RX-60?",
        "The {bolts} came loose. How tight must they be?",
        "What torque does Quillon specify for the {bolts}?",
    ],
    [
        "With what torque do I fasten the {bolts}?",
        "How many Nm do the {bolts} get?",
        "Please tell me the right torque setting for the {bolts}.",
        "I took the {bolts} out of my RX-60. How hard do I tighten them again?",
    ])

INTERVALS = Kind(
    "interval", ("do", "doing", "done", "interval"), "interval", "You should {do} {interval}.",
    [
        ("grease the drum bearings", "greasing the drum bearings", "the drum bearings greased", "every 120 hours"),
        ("clean the cyclone", "cleaning the cyclone", "the cyclone cleaned", "every 15 hours"),
        ("change the drum belt", "changing the drum belt", "the drum belt changed", "every 2,400 hours"),
        ("descale the quench nozzles", "descaling the quench nozzles", "the quench nozzles descaled", "every 30 days"),
        ("check the flame sensor", "checking the flame sensor", "the flame sensor checked", "every 8 weeks"),
        ("calibrate the bean scale", "calibrating the bean scale", "the bean scale calibrated", "every 90 days"),
        ("inspect the chimney", "inspecting the chimney", "the chimney inspected", "every 6 months"),
        ("renew the door gasket", "renewing the door gasket", "the door gasket renewed", "twice in 3 years"),
    ],
    [
        "How often should I {do}?",
        "How often is {doing} due?",
        "When must I {do}?",
        "At what interval do I {do}?",
        "What is the service interval for {doing}?",
        "How often do I have to {do} on the Quillon RX-60?",
        "What does the maintenance plan say about {doing}?",
        "How often must I have {done}?",
        "I run the RX-60 every day. How often should I {do}?",
        "Which interval does Quillon give for {doing}?",
    ],
    [
        "How frequently do we need to {do}?",
        "Our roaster is due for service. How often do we {do}?",
        "What is the recommended period for {doing}?",
        "How often does the manual want {done}?",
    ])

SUPPLIES = Kind(
    "supply", ("place", "product"), "product", "Use {product} for the {place}.",
    [
        ("main bearing", "Ferrolane 40 grease"),
        ("gearbox", "Orvane 220 oil"),
        ("drive chain", "Karvex dry wax"),
        ("sight glass", "Lumasol cleaner"),
        ("door gasket", "Tessolin silicone paste"),
        ("paddle shaft", "Nordane white grease"),
    ],
    [
        "What do I use for the {place}?",
        "Which product is approved for the {place}?",
        "What should I put on the {place}?",
        "Which product does Quillon prescribe for the {place}?",
        "I am servicing the {place}. What do I apply?",
        "What goes on the {place} of the RX-60?",
        "Which maintenance product does the {place} need?",
        "What does the {place} have to be treated with?",
        "Name the right product for the {place}.",
    ],
    [
        "With what do I treat the {place}?",
        "Which product should I buy for the {place} of my roaster?",
        "The {place} needs care. What is the right stuff for it?",
        "What is recommended for the {place} of the Quillon?",
    ])

# Facts that are asked each in their own words: fact, answer, wordings for training, wordings for testing.
DATA_SHEET = [
    ("charge", "58 kg", "The RX-60 takes at most 58 kg of green coffee.",
     ["How much green coffee fits into the RX-60?", "What is the maximum charge weight?", "What is the largest batch that I can roast?",
      "How many kilograms can I load at most?", "What batch size must I not exceed on the Quillon?", "How big may a batch be?"],
     ["What is the upper limit for one batch of green coffee?", "How heavy can a charge of the RX-60 be?"]),
    ("drum-speed", "47 rpm", "The drum turns at 47 rpm.",
     ["How fast does the drum turn?", "What is the drum speed of the RX-60?", "At what speed should the drum rotate?", "How many revolutions per minute does the drum make?",
      "Which rpm is right for the drum?", "I measured the speed of the drum. What should it be?"],
     ["What is the normal speed of rotation of the drum?", "How quickly is the drum of the Quillon supposed to rotate?"]),
    ("gas", "21 mbar", "The gas inlet needs 21 mbar.",
     ["What gas pressure does the inlet need?", "How much pressure must there be at the gas inlet?", "To what pressure do I set the gas regulator?",
      "Which inlet pressure does the burner of the RX-60 want?", "The fitter asks for the gas pressure. What is it?", "What is the correct gas supply pressure?"],
     ["How many mbar should the gas line supply?", "What pressure should I read at the gas inlet of the Quillon?"]),
    ("preheating", "35 minutes", "Preheating takes 35 minutes.",
     ["How long does preheating take?", "How long must I preheat the RX-60?", "When is the roaster warm enough after switching on?", "What is the preheating time?",
      "How many minutes before the first batch do I switch the burner on?", "How long does the Quillon need to warm up?"],
     ["How much time should I plan for warming up the roaster?", "The roaster is cold. How long until it is preheated?"]),
    ("afterburner", "640 degrees", "The afterburner runs at 640 degrees.",
     ["How hot does the afterburner run?", "What is the temperature of the afterburner?", "To what temperature do I set the afterburner?",
      "Which temperature must the afterburner reach?", "What should the afterburner thermometer show?", "At how many degrees does the afterburner of the RX-60 work?"],
     ["What is the working temperature of the afterburner?", "How hot should the Quillon's afterburner be?"]),
    ("quench-water", "4.5 litres", "Quenching takes 4.5 litres of water a batch.",
     ["How much water does quenching take?", "How many litres of quench water does a batch need?", "What is the water dose for quenching?",
      "How much water is sprayed into the drum at the end of a roast?", "What amount of quench water do I set on the RX-60?", "How much water does the quench use for each batch?"],
     ["How many litres are sprayed when a batch is quenched?", "What quantity of water should the Quillon use for a quench?"]),
    ("fuse", "32 amperes", "The main fuse is rated at 32 amperes.",
     ["What size is the main fuse?", "Which main fuse does the RX-60 need?", "How many amperes must the main fuse have?", "What rating does the main fuse have?",
      "The electrician asks about the main fuse. What do I say?", "With how many amperes is the roaster fused?"],
     ["The main fuse has blown. Which rating do I put in?", "What is the fuse rating of the Quillon's mains supply?"]),
    ("service-menu", "7319", "The code of the service menu is 7319.",
     ["What is the code of the service menu?", "How do I get into the service menu?", "Which PIN opens the service menu?", "The RX-60 asks for a service code. What do I enter?",
      "What number unlocks the service menu?", "I cannot open the service menu. What is the code?"],
     ["Which code do I type in for the service menu?", "What PIN does the service menu of the Quillon want?"]),
]


def rotate(wordings, start, n):
    """n different ones, spread over the list, so that neighbouring facts are asked in different ways."""
    step = next(s for s in (5, 3, 1) if math.gcd(s, len(wordings)) == 1)
    return [wordings[(start + k * step) % len(wordings)] for k in range(n)]


def rows():
    """(train, test): lists of rows in the order of the facts."""
    train, test = [], []

    def add(name, fact, answer, asked, tested):
        for split, questions in ((train, asked), (test, tested)):
            for number, question in enumerate(questions, 1):
                split.append({"id": f"{name}.{number}", "question": question, "answer": answer, "fact": fact})

    for kind in (ERRORS, WARNINGS, PARTS, TORQUES, INTERVALS, SUPPLIES):
        for i, fact in enumerate(kind.facts):
            name = f"{kind.name}.{next(iter(fact.values())).replace(' ', '-')}"
            asked = [w.format(**fact) for w in rotate(kind.train, i, TRAIN)]
            tested = [w.format(**fact) for w in rotate(kind.test, i, TEST)]
            add(name, fact[kind.fact], kind.answer.format(**fact), asked, tested)
    for name, fact, answer, asked, tested in DATA_SHEET:
        add(f"data-sheet.{name}", fact, answer, asked, tested)
    return train, test


def check(train, test):
    """The promises of the data set's README."""
    asked = [row["question"] for row in train + test]
    assert len(set(asked)) == len(asked), "a question occurs twice"
    facts = {row["fact"] for row in train}
    assert facts == {row["fact"] for row in test} and len(facts) == len(train) // TRAIN == len(test) // TEST
    answers = {row["answer"] for row in train}
    assert len(answers) == len(facts)
    for row in train + test:
        assert row["fact"] in row["answer"]
        assert sum(fact in row["answer"] for fact in facts) == 1, f"{row['answer']} holds two facts"
        assert row["fact"] not in row["question"], f"{row['question']} gives the answer away"


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "examples/data/quillon")
    train, test = rows()
    check(train, test)
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in split), encoding="utf-8")
        print(f"{folder.name}/{name}.jsonl: {len(split)} questions about {len({row['fact'] for row in split})} facts")


if __name__ == "__main__":
    main()
