"""Overrides that make the models of shipped experiments tiny."""

TINY = {
    "llama_tiny": [
        "model.config.num_hidden_layers=1",
        "model.config.hidden_size=16",
        "model.config.intermediate_size=16",
        "model.config.num_attention_heads=2",
    ],
    "gpt_tiny": ["model.config.n_layer=1", "model.config.n_embd=16", "model.config.n_head=2"],
    "vit_tiny": [
        "model.config.num_hidden_layers=1",
        "model.config.hidden_size=16",
        "model.config.num_attention_heads=2",
    ],
    "minilm_seq2seq": ["model.encoder={tiny}"],
}

TINY_VIT = [
    "model=vit_tiny",
    "model.config.num_hidden_layers=1",
    "model.config.hidden_size=16",
    "model.config.num_attention_heads=2",
    "hardware=cpu",
    "hardware.threads=1",
]
