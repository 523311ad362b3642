"""Lines of the Universal Declaration of Human Rights in 100 languages.

The languages are those with most speakers (roughly in the order of Ethnologue's counts) among the
files of the archive whose encoding Python knows; a language is its ISO 639 code. Lines of fewer
than ``MIN_LETTERS`` letters ("Article 3") say little of their language and are measured apart.
"""

from __future__ import annotations

import sys
import unicodedata
import zipfile
from pathlib import Path

MIN_LETTERS = 25
LANGUAGES = 100
_ENCODINGS = {
    "UTF8": "utf-8",
    "Latin1": "cp1252",
    "Latin2": "iso8859-2",
    "Arabic": "cp1256",
    "Baltic": "cp1257",
}
_FILES = """
en English-Latin1;zh Chinese_Mandarin-UTF8;hi Hindi-UTF8;es Spanish-Latin1
ar Arabic_Alarabia-Arabic;fr French_Francais-Latin1;bn Bengali-UTF8
pt Portuguese_Portugues-Latin1;ru Russian-UTF8;id Indonesian-Latin1;de German_Deutsch-Latin1
ja Japanese_Nihongo-UTF8;pcm NigerianPidginEnglish-Latin1;mr Marathi-UTF8
vi Vietnamese-UTF8;sw Swahili_Kiswahili-Latin1;tr Turkish_Turkce-UTF8;pa Punjabi_Panjabi-UTF8
ko Korean_Hankuko-UTF8;ta Tamil-UTF8;tl Filipino_Tagalog-Latin1;ha Hausa_Haoussa-Latin1
jv Javanese-Latin1;fa Farsi_Persian-UTF8;it Italian-Latin1;gu Gujarati-UTF8;kn Kannada-UTF8
yo Yoruba-UTF8;my Burmese_Myanmar-UTF8;pl Polish-Latin2;om Afaan_Oromo_Oromiffa-Latin1
uz Uzbek-Latin1;su Sundanese-Latin1;ig Igbo-UTF8;ms Malay_BahasaMelayu-Latin1;uk Ukrainian-UTF8
ne Nepali-UTF8;nl Dutch_Nederlands-Latin1;mg Malagasy-Latin1;skr Saraiki-UTF8;ro Romanian-Latin2
zu Zulu-Latin1;so Somali-Latin1;ceb Cebuano-Latin1;kri Krio-UTF8;mag Magahi-UTF8
ln Lingala-Latin1;xh Xhosa-Latin1;si Sinhala-UTF8;af Afrikaans-Latin1;ku Kurdish-UTF8
ny Chechewa_Nyanja-Latin1;bm Bambara-UTF8;kk Kazakh-UTF8;za Zhuang-Latin1;rw Kinyarwanda-Latin1
nso NorthernSotho_Pedi-Sepedi-Latin1;tn WesternSotho_Tswana-Setswana-Latin1
st SouthernSotho_Sotho-Sesotho-Sutu-Sesutu-Latin1;el Greek_Ellinika-UTF8;hu Hungarian_Magyar-UTF8
sv Swedish_Svenska-Latin1;cs Czech-UTF8;ht HaitianCreole_Kreyol-Latin1;rn Rundi_Kirundi-Latin1
lg Luganda_Ganda-Latin1;sn Shona-Latin1;ug Uighur_Uyghur-UTF8;mos Moore_More-UTF8
wo Wolof-Latin1;sr Serbian_Srpski-UTF8;he Hebrew_Ivrit-UTF8;ilo Iloko_Ilocano-Latin1
ak Asante-UTF8;hil Hiligaynon-Latin1;bg Bulgarian_Balgarski-UTF8;qu Quechua-Latin1
ee Ewe_Eve-UTF8;umb Umbundu-Latin1;gn Guarani-Latin1;mad Madurese-Latin1;sq Albanian_Shqip-Latin1
kg Kicongo-Latin1;ca Catalan-Latin1;da Danish_Dansk-Latin1;fi Finnish_Suomi-Latin1
hr Croatian_Hrvatski-Latin2;sk Slovak-Latin2;nb Norwegian_Norsk-Bokmal-Latin1
mn Mongolian_Khalkha-UTF8;min Minangkabau-Latin1;lua Luba-Kasai_Tshiluba-Latin1;tiv Tiv-Latin1
be Belorus_Belaruski-UTF8;bem Bemba-Latin1;ace Achehnese-Latin1;ban Balinese-Latin1
lo Lao-UTF8;ss Siswati-Latin1;bug Bugisnese-Latin1;lt Lithuanian_Lietuviskai-Baltic
sl Slovenian_Slovenscina-Latin2;mk Macedonian-UTF8;bs Bosnian_Bosanski-UTF8
gl Galician_Galego-Latin1
"""


def read_udhr_lines(
    archive: Path, letters: range = range(MIN_LETTERS, sys.maxsize)
) -> dict[str, list[str]]:
    """ISO 639 code -> distinct lines of so many letters, in the order of the text."""
    lines: dict[str, list[str]] = {}
    with zipfile.ZipFile(archive) as files:
        for entry in _FILES.strip().replace("\n", ";").split(";")[:LANGUAGES]:
            code, name = entry.split()
            encoding = _ENCODINGS[name.rpartition("-")[2]]
            text = files.read(f"udhr/{name}").decode(encoding, errors="ignore")
            cleaned = (
                " ".join(line.split()) for line in unicodedata.normalize("NFC", text).splitlines()
            )
            lines[code] = [k for k in dict.fromkeys(cleaned) if sum(map(_is_letter, k)) in letters]
    return lines


def _is_letter(sign: str) -> bool:
    """Letter or combining mark: marks carry the vowels of Indic scripts."""
    return unicodedata.category(sign)[0] in "LM"
