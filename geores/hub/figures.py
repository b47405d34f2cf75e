"""Figures that the cards of published models state, on reBEN's recommended test split."""

from collections.abc import Mapping

__all__ = ['PUBLISHED']

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    'resnet50-s1-v0.2.0': {
        'ap_macro': 0.628376,
        'ap_micro': 0.800728,
        'f1_macro': 0.576080,
        'f1_micro': 0.701954,
    },
    'resnet50-all-v0.2.0': {
        'ap_macro': 0.703272,
        'ap_micro': 0.860669,
        'f1_macro': 0.644179,
        'f1_micro': 0.766649,
    },
    'vit_base_patch8_224-all-v0.2.0': {
        'ap_macro': 0.667642,
        'ap_micro': 0.842169,
        'f1_macro': 0.603248,
        'f1_micro': 0.745763,
    },
    'mobilevit_s-s1-v0.2.0': {
        'ap_macro': 0.631198,
        'ap_micro': 0.811763,
        'f1_macro': 0.565671,
        'f1_micro': 0.705591,
    },
    'mobilevit_s-all-v0.1.1': {
        'ap_macro': 0.703328,
        'ap_micro': 0.863635,
        'f1_macro': 0.637516,
        'f1_micro': 0.763493,
    },
    'mixer_b16_224-s2-v0.1.1': {
        'ap_macro': 0.678437,
        'ap_micro': 0.844076,
        'f1_macro': 0.616138,
        'f1_micro': 0.744229,
    },
    'rdnet_base-s2-v0.2.0': {
        'ap_macro': 0.688747,
        'ap_micro': 0.853909,
        'f1_macro': 0.623068,
        'f1_micro': 0.754790,
    },
    'rdnet_base-all-v0.2.0': {
        'ap_macro': 0.688802,
        'ap_micro': 0.859499,
        'f1_macro': 0.619031,
        'f1_micro': 0.758917,
    },
}
