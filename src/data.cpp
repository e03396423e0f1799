// SPDX-License-Identifier: Apache-2.0
#include "peft/data/impl/collate.inl"
#include "peft/data/impl/dataloader.inl"
#include "peft/data/impl/encode_examples.inl"
#include "peft/data/impl/example.inl"
#include "peft/data/impl/formats.inl"
#include "peft/data/impl/labelled.inl"
#include "peft/data/impl/labelled_rows.inl"
#include "peft/data/impl/prompt_template.inl"
