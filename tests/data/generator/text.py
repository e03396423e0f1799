# SPDX-License-Identifier: Apache-2.0
"""tokenizers/ and chat_templates/: byte-level BPE in two styles and vocabularies of words, trained on the project's own text, and what they make of
difficult strings."""
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from common import dump

SERVICE_DESK = Path(__file__).parents[3] / "examples/data/quillon/train.jsonl"

PROSE = """A small machine that turns beans into a smell you could sell on its own stood in the corner of the yard.
Nobody knew who had left it there; it'd been raining, and the label couldn't be read any more.
We're told it was built in 1987, that it weighs 412 kg, and that it doesn't like cold mornings.
Der Kessel läuft, die Trommel dreht sich, und über dem Hof hängt ein süßer Rauch.
Le matin, l'odeur du café grillé réveille toute la rue; à midi, il n'en reste rien.
El molino gira despacio, ¿quién lo habrá encendido?
Печь греется медленно, зато долго держит тепло.
烘焙机在院子里慢慢转动，豆子的香味飘得很远。
コーヒー豆を焼く香りが庭に広がった。
for step in range(10):\n    heat = heat * 0.9 + 20  # settles at 200\n    print(f"{step}: {heat:.1f}")"""

# Where pre-tokenizers, merges of bytes and decoders go wrong.
DIFFICULT = [
    "", " ", "   ", "\n", "\n\n", " \n", "\r\n", "\t\t", " \t \n \r ", "\u00a0", "\u3000", "\u2028\u2029", "\x00", "\x07\x1b[1m\x7f", "\ufeffbegin", "a", " a", "a ",
    "  two  spaces  between  words  ", "The drum turns at 47 rpm.", "E42 means that the cyclone filter is clogged.", "QX-2590", "RX60RX60RX60", "0", "007", "1 000 000",
    "3,141.59 -12e+5 0xFF", "year 1999 and 2024-05-17T08:30:00", "4½ ² Ⅳ ٣٤ ५६ １２", "she'll they've I'd we're it's don't I'm", "SHE'LL DON'T", "'s''t're'", "rock'n'roll 'til '99",
    "it’s don’t", "snake_case camelCase kebab-case path/to/file.txt C:\\temp", "a+b=c; x**2 != y//3 && !z", "if (x) { return \"\\n\"; }\n\telse\n\t\tpass", "<b>bold</b> &amp; more",
    "user@host.example https://host.example/?a=1&b=%20", "#tag @name $5 €6 £7 ¥8", "...!!!???---___***", "(((nested)))", "Größe, Straße, naïve, façade, ÅÉÎÕÜ", "e\u0301 \u00e9 n\u0303 \u00f1",
    "z" + "\u0335" * 20, "Сколько времени?", "Τι ώρα είναι;", "מה השעה", "كم الساعة", "समय क्या है", "เวลาเท่าไหร่", "现在几点？", "今何時ですか", "지금 몇 시예요", "ﬃ Ǆ ſ K Å", "𝔘𝔫𝔦 𝟙𝟚𝟛", "🔥", "☕️☕︎",
    "👩‍🔧👨🏾‍🍳", "🇨🇭🇯🇵", "\U0010fffd", "\ufffd\ufffd", "zero\u200bwidth\u200djoiner", "soft\u00adhyphen", "<|endoftext|>", "one<|endoftext|>two <|endoftext|> three", "<|im_start|>user\nhello<|im_end|>\n",
    "<|endoftext", "<|ENDOFTEXT|>", "<|im_start|><|im_start|>", "Ġ Ċ ĉ", "a" * 120, "ab" * 60, " " * 33, "9" * 25, "=" * 50, "\n" * 9, "\n    indented\n        twice\n", "trailing newline\n", "tab\tseparated\tvalues",
    "Why did my RX-60 stop with E42? The panel says nothing, I've checked twice!",
]

STYLES = {
    "bytes-gpt2": ([], ["<|endoftext|>"], 420),
    "bytes-digits": ([pre_tokenizers.Digits(individual_digits=True)], ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 320),
}

CHAT = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml-system": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                     "{{ '<|im_start|>system\\nYou look after roasters.<|im_end|>\\n' }}{% endif %}"
                     "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
                     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "headers": "{% for message in messages %}"
               "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}"
               "{% if loop.first %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
}

CONVERSATIONS = [
    [("user", "Is it hot?")],
    [("system", "Be brief."), ("user", "  What does E42 mean?\n")],
    [("user", "Wer bist du?"), ("assistant", "Ein Röster. ☕"), ("user", "Seit wann?")],
    [("user", "one"), ("assistant", "")],
]


def corpus():
    rows = [json.loads(line) for line in SERVICE_DESK.read_text(encoding="utf-8").splitlines()]
    return PROSE.split("\n") * 3 + [row[key] for row in rows for key in ("question", "answer")]


def train(before, special, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(before + [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                                show_progress=False))
    return tokenizer


def train_words(before):
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = before
    tokenizer.train_from_iterator(corpus(), trainers.WordLevelTrainer(vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def write_golden(folder, tokenizer):
    with open(folder / "golden.jsonl", "w", encoding="utf-8") as file:
        for text in DIFFICULT:
            ids, plain = tokenizer.encode(text).ids, tokenizer.encode(text, add_special_tokens=False).ids
            row = dict(text=text, ids=ids, ids_without_special=plain, decoded=tokenizer.decode(plain, skip_special_tokens=False),
                       decoded_skip_special=tokenizer.decode(ids))
            file.write(json.dumps(row) + "\n")


def write_words(root):
    """Words, and what lies between two changes of script; also the offsets, of pairs."""
    for name, before in {"words-scripts": pre_tokenizers.UnicodeScripts(),
                         "words-mixed": pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.UnicodeScripts()])}.items():
        folder = root / "tokenizers" / name
        folder.mkdir(parents=True)
        tokenizer = train_words(before)
        tokenizer.save(str(folder / "tokenizer.json"))
        write_golden(folder, tokenizer)
        with open(folder / "golden_pairs.jsonl", "w", encoding="utf-8") as file:
            for a, b in zip(DIFFICULT + PROSE.split("\n"), PROSE.split("\n") + DIFFICULT):
                pair = tokenizer.encode(a, b)
                file.write(json.dumps(dict(a=a, b=b, ids=pair.ids, type_ids=pair.type_ids, offsets=pair.offsets)) + "\n")


def write(root):
    write_words(root)
    for name, (before, special, size) in STYLES.items():
        folder = root / "tokenizers" / name
        folder.mkdir(parents=True)
        tokenizer = train(before, special, size)
        tokenizer.save(str(folder / "tokenizer.json"))
        dump(folder / "tokenizer_config.json", dict(tokenizer_class="PreTrainedTokenizerFast", eos_token=special[-1], pad_token=special[0],
                                                    **({"chat_template": CHAT["chatml"]} if "<|im_start|>" in special else {})))
        write_golden(folder, tokenizer)

    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")
    (root / "chat_templates").mkdir()
    with open(root / "chat_templates/golden.jsonl", "w", encoding="utf-8") as file:
        for name, template in CHAT.items():
            for conversation in CONVERSATIONS:
                for prompt in (False, True):
                    messages = [dict(role=role, content=content) for role, content in conversation]
                    rendered = chat.apply_chat_template(messages, chat_template=template, add_generation_prompt=prompt, tokenize=False)
                    file.write(json.dumps(dict(template_name=name, template=template, bos_token="<bos>", eos_token="<eos>", messages=messages,
                                               add_generation_prompt=prompt, rendered=rendered)) + "\n")
