# `make results`: the figures of docs/results.md, by the shipped weights or those of MODEL, on speech that no model was
# trained on. Included by the Makefile; killed and called again it goes on after the last whole recording or sentence.

RESULTS ?= runs/results
MODEL ?=
# Takes of each list of sentences, which are averaged
SEEDS ?= 0 1 2 3
# Synthetic voices, native readers without exact transcripts, and learners with them: corpora as `prepare` reads
SYNTHETIC ?= ../shared/speech/kokoro
READERS ?= ../shared/speech/real/librispeech251.jsonl
LEARNERS ?= ../shared/speech/real/speechocean762.jsonl

R := $(RESULTS)
TAKES := $(foreach list,synthetic readers,$(SEEDS:%=$(list)-%)) hard-0
RESULT_REPORTS := $(patsubst %,$(R)/codec-%/report.json,synthetic readers learners) \
	$(TAKES:%=$(R)/speech-%/report.json)
# codec-readers=runs/results/codec-readers speech-readers=runs/results/speech-readers-0 ...
NAMED = $(foreach report,$(RESULT_REPORTS:%/report.json=%),$(call name_of,$(notdir $(report)))=$(report))
name_of = $(firstword $(foreach seed,$(SEEDS),$(patsubst %-$(seed),%,$(filter %-$(seed),$(1)))) $(1))

$(R)/tables.md: $(RESULT_REPORTS)
	$(SPEECHLM) eval summary $@ $(NAMED)

$(SYNTHETIC) $(READERS) $(LEARNERS):
	@echo "There is no $@: say where such speech lies, make results SYNTHETIC=path READERS=path LEARNERS=path"; exit 1

$(R)/data/synthetic/manifest.jsonl: | $(SYNTHETIC) scorers
	$(SPEECHLM) prepare $(SYNTHETIC) $(@D) --valid-pattern 's\d*9$$' --require-phonemes --workers $(WORKERS)

$(R)/data/readers/manifest.jsonl: | $(READERS) scorers
	$(SPEECHLM) prepare $(READERS) $(@D) --allow-missing-text --workers $(WORKERS)

$(R)/data/learners/manifest.jsonl: | $(LEARNERS) scorers
	$(SPEECHLM) prepare $(LEARNERS) $(@D) --workers $(WORKERS)

$(R)/codec-%/report.json: $(R)/data/%/manifest.jsonl
	$(SPEECHLM) eval codec $< $(@D) $(MODEL:%=--codec %/codec) --num-books 3 --num-books 6 --limit 32

$(R)/synthetic.jsonl: $(R)/data/synthetic/manifest.jsonl
	$(SPEECHLM) eval list $< $@

# Readers say what the synthetic voices say: their own texts are not exact
$(R)/readers.jsonl: $(R)/data/readers/manifest.jsonl $(R)/synthetic.jsonl
	$(SPEECHLM) eval list $< $@ --sentences $(R)/synthetic.jsonl

$(R)/hard.jsonl: | scorers
	$(SPEECHLM) eval list shipped $@ --protocol hard

define take
$(R)/speech-$(1)-$(2)/report.json: $(R)/$(1).jsonl
	$(SPEECHLM) eval tts $$< $$(@D) $(MODEL:%=--model %) --seed $(2)
endef
$(foreach list,synthetic readers,$(foreach seed,$(SEEDS),$(eval $(call take,$(list),$(seed)))))
$(eval $(call take,hard,0))
