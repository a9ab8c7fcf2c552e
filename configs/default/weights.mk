# `make weights`: the road to the shipped weights, stage by stage (docs/recipe.md). Each stage has a file that is
# written last as its witness, and each command goes on where a killed one stopped. Included by the Makefile.

WEIGHTS ?= runs/default
SPEECHLM ?= $(BIN)/speechlm
WEIGHTS_NEED ?= $(READY)/synthesis $(READY)/measures
WORKERS ?= 1
THREADS ?= 2

# The speech: sentences, and how many hours of it in how many voices
TEXT ?= ../shared/speech/sentences.txt
EXCLUDE ?=
HOURS ?= 20
SPEAKERS ?= 400
VOICE_SEED ?= 1
SPEECH_SEED ?= 1
# Further corpora with phonemes and durations, for all models
MORE_SPEECH ?=
KOKORO := build/kokoro
VOICES ?= $(KOKORO)/package/voices
KOKORO_MODEL ?=

# Recordings of people for the codec: any corpora that `speechlm prepare` reads
REAL ?=
REAL_OPTIONS ?= --allow-missing-text

# Recordings of people with transcripts for the language models; an aligner finds how long their phonemes last
TRANSCRIBED ?=
TRANSCRIBED_OPTIONS ?= --phonemes en-us --require-phonemes

# Copies of the language models' training speech in other voices, rooms and microphones; 0 makes none
COPIES ?= 2

# Recipes, and options of `speechlm train` for each, such as CODEC_OPTIONS='--set run.total_steps=60000'
CODEC_RECIPE ?= configs/default/codec.yaml
ADVERSARIAL_RECIPE ?= configs/default/codec-adversarial.yaml
ALIGNER_RECIPE ?= configs/default/aligner.yaml
AR_RECIPE ?= configs/default/ar-6books.yaml
NAR_RECIPE ?=
CODEC_OPTIONS ?=
ADVERSARIAL_OPTIONS ?=
ALIGNER_OPTIONS ?=
AR_OPTIONS ?=
NAR_OPTIONS ?=

# Of the reports: recordings, cloned sentences, hard sentences
RECORDINGS ?= 40
CLONED ?= 20
HARD ?= 200

comma := ,
space := $(subst ,, )
W := $(WEIGHTS)
SPEECH := $(W)/data/speech/manifest.jsonl
PEOPLE := $(if $(REAL),$(W)/data/real/manifest.jsonl)
CORPORA := --set 'data=[{manifest: $(SPEECH)}$(if $(REAL),$(comma) {manifest: $(PEOPLE)$(comma) repeat: 2})]'
CODEC_TRAINING := $(CORPORA) --set cache=$(W)/packs --set run.num_threads=$(THREADS)
TRANSCRIBED_MANIFEST := $(W)/data/transcribed/manifest.jsonl
COPIED := $(filter-out 0,$(COPIES))
# Folders of tokens with durations that the language models read, as words; a recipe wants commas
TOKENS := $(W)/tokens $(if $(COPIED),$(W)/tokens-copies)
TOKENS += $(if $(TRANSCRIBED),$(W)/aligned $(if $(COPIED),$(W)/aligned-copies))
ALL_TOKENS := $(subst $(space),$(comma),$(strip $(TOKENS)))
SLM_TRAINING := --set 'shards=[$(ALL_TOKENS)]' --set run.num_threads=$(THREADS)
AR_NAME := $(basename $(notdir $(AR_RECIPE)))
NAR_NAME := $(basename $(notdir $(NAR_RECIPE)))
MODELS := $(W)/models/ar/model.safetensors $(if $(NAR_RECIPE),$(W)/models/nar/model.safetensors)
REPORTS := $(patsubst %,$(W)/reports/%/report.json,codec cloning hard)

.PHONY: weights FORCE
FORCE:

# What a stage was asked for; it is written anew, and the stage runs again, only when that changes.
ASKED_speech = $(TEXT) $(EXCLUDE) $(HOURS) $(SPEAKERS) $(VOICE_SEED) $(SPEECH_SEED) $(VOICES)
ASKED_more = $(MORE_SPEECH)
ASKED_real = $(REAL) $(REAL_OPTIONS)
ASKED_transcribed = $(TRANSCRIBED) $(TRANSCRIBED_OPTIONS)
ASKED_copies = $(COPIES)
ASKED_aligner = $(ALIGNER_RECIPE) $(ALIGNER_OPTIONS)
ASKED_codec = $(CODEC_RECIPE) $(CORPORA) $(CODEC_OPTIONS)
ASKED_adversarial = $(ADVERSARIAL_RECIPE) $(ADVERSARIAL_OPTIONS)
ASKED_ar = $(AR_RECIPE) $(AR_OPTIONS) $(ALL_TOKENS)
ASKED_nar = $(NAR_RECIPE) $(NAR_OPTIONS) $(ALL_TOKENS)
ASKED_reports = $(RECORDINGS) $(CLONED) $(HARD)

$(W)/asked/%: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$(ASKED_$*)" | cmp -s - $@ || printf '%s\n' "$(ASKED_$*)" > $@

$(READY)/synthesis: pyproject.toml $(CONSTRAINTS) | $(READY)/torch
	$(PIP) --editable '.[synthesis,plots]'
	@touch $@

$(KOKORO)/package/voices/af_heart.bin:
	@mkdir -p $(KOKORO)
	cd $(KOKORO) && npm pack --silent kokoro-js@1.2.1 && tar -xzf kokoro-js-1.2.1.tgz
	@touch $@

$(TEXT):
	@echo "There is no $@: give a file with an English sentence a line, make weights TEXT=path"; exit 1

$(W)/speech/summary-$(SPEECH_SEED).json: $(TEXT) $(VOICES)/af_heart.bin $(W)/asked/speech | $(WEIGHTS_NEED)
	$(SPEECHLM) synthesize $(W)/speech --text $(TEXT) $(EXCLUDE:%=--exclude %) --hours $(HOURS) \
		--speakers $(SPEAKERS) --voice-seed $(VOICE_SEED) --seed $(SPEECH_SEED) --voices $(VOICES) \
		$(if $(KOKORO_MODEL),--model $(KOKORO_MODEL)) --per-speaker --workers $(WORKERS)

# Speakers whose number ends in 9 are held out, with all their sentences: no sentence is said twice
$(SPEECH): $(W)/speech/summary-$(SPEECH_SEED).json $(W)/asked/more
	$(SPEECHLM) prepare $(W)/speech $(MORE_SPEECH) $(@D) --valid-pattern 's\d*9$$' --require-phonemes \
		--workers $(WORKERS)

$(W)/data/real/manifest.jsonl: $(W)/asked/real | $(WEIGHTS_NEED)
	$(SPEECHLM) prepare $(REAL) $(@D) $(REAL_OPTIONS) --workers $(WORKERS)

$(W)/codec-mel/model.safetensors: $(SPEECH) $(PEOPLE) $(W)/asked/codec
	$(SPEECHLM) train codec $(CODEC_RECIPE) --run $(W)/runs/codec $(CODEC_TRAINING) $(CODEC_OPTIONS)
	$(SPEECHLM) export $(W)/runs/codec $(@D)

$(W)/models/codec/model.safetensors: $(W)/codec-mel/model.safetensors $(W)/asked/adversarial
	$(SPEECHLM) train codec $(ADVERSARIAL_RECIPE) --from $(W)/runs/codec --run $(W)/runs/codec-adversarial \
		$(CODEC_TRAINING) $(ADVERSARIAL_OPTIONS)
	$(SPEECHLM) export $(W)/runs/codec-adversarial $(@D)

$(W)/tokens/index.json: $(W)/models/codec/model.safetensors $(SPEECH)
	$(SPEECHLM) tokenize $(SPEECH) $(@D) --codec $(W)/models/codec --workers $(WORKERS)

$(TRANSCRIBED_MANIFEST): $(W)/asked/transcribed | $(WEIGHTS_NEED)
	$(SPEECHLM) prepare $(TRANSCRIBED) $(@D) $(TRANSCRIBED_OPTIONS) --workers $(WORKERS)

$(W)/tokens-transcribed/index.json: $(W)/models/codec/model.safetensors $(TRANSCRIBED_MANIFEST)
	$(SPEECHLM) tokenize $(TRANSCRIBED_MANIFEST) $(@D) --codec $(W)/models/codec --workers $(WORKERS)

# On the synthetic speech too: clear speech shows it where phonemes begin
$(W)/aligner/model.safetensors: $(W)/tokens/index.json $(W)/tokens-transcribed/index.json $(W)/asked/aligner
	$(SPEECHLM) train aligner $(ALIGNER_RECIPE) --run $(W)/runs/aligner \
		--set 'shards=[$(W)/tokens-transcribed$(comma)$(W)/tokens]' --set run.num_threads=$(THREADS) $(ALIGNER_OPTIONS)
	$(SPEECHLM) export $(W)/runs/aligner $(@D)

$(W)/data/copies/manifest.jsonl: $(SPEECH) $(W)/asked/copies
	$(SPEECHLM) perturb $< $(@D) --copies $(COPIES) --workers $(WORKERS)

$(W)/data/transcribed-copies/manifest.jsonl: $(TRANSCRIBED_MANIFEST) $(W)/asked/copies
	$(SPEECHLM) perturb $< $(@D) --copies $(COPIES) --workers $(WORKERS)

$(W)/tokens-copies/index.json: $(W)/data/copies/manifest.jsonl $(W)/models/codec/model.safetensors
	$(SPEECHLM) tokenize $< $(@D) --codec $(W)/models/codec --workers $(WORKERS)

$(W)/tokens-transcribed-copies/index.json: $(W)/data/transcribed-copies/manifest.jsonl $(W)/models/codec/model.safetensors
	$(SPEECHLM) tokenize $< $(@D) --codec $(W)/models/codec --workers $(WORKERS)

$(W)/aligned/index.json: $(W)/tokens-transcribed/index.json $(W)/aligner/model.safetensors
	$(SPEECHLM) align $(W)/tokens-transcribed $(@D) --model $(W)/aligner

$(W)/aligned-copies/index.json: $(W)/tokens-transcribed-copies/index.json $(W)/aligner/model.safetensors
	$(SPEECHLM) align $(W)/tokens-transcribed-copies $(@D) --model $(W)/aligner

$(W)/models/ar/model.safetensors: $(TOKENS:%=%/index.json) $(W)/asked/ar
	$(SPEECHLM) train slm $(AR_RECIPE) --run $(W)/runs/$(AR_NAME) $(SLM_TRAINING) $(AR_OPTIONS)
	$(SPEECHLM) export $(W)/runs/$(AR_NAME) $(@D)

$(W)/models/nar/model.safetensors: $(TOKENS:%=%/index.json) $(W)/asked/nar
	$(SPEECHLM) train slm $(NAR_RECIPE) --run $(W)/runs/$(NAR_NAME) $(SLM_TRAINING) $(NAR_OPTIONS)
	$(SPEECHLM) export $(W)/runs/$(NAR_NAME) $(@D)

$(W)/reports/codec/report.json: $(W)/models/codec/model.safetensors $(W)/asked/reports
	$(SPEECHLM) eval codec $(or $(PEOPLE),$(SPEECH)) $(@D) --codec $(W)/models/codec --limit $(RECORDINGS)

$(W)/reports/cloning.jsonl: $(SPEECH) $(W)/asked/reports
	@mkdir -p $(@D)
	$(SPEECHLM) eval list $(SPEECH) $@ --count $(CLONED)

$(W)/reports/hard.jsonl: $(SPEECH) $(W)/asked/reports
	@mkdir -p $(@D)
	$(SPEECHLM) eval list $(SPEECH) $@ --protocol hard --count $(HARD)

$(W)/reports/cloning/report.json $(W)/reports/hard/report.json: %/report.json: %.jsonl $(MODELS)
	$(SPEECHLM) eval tts $< $(@D) --model $(W)/models
