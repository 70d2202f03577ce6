"""The language of a text: a guess for whatever has letters, sure where the text tells it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import UnknownLanguage
from dragoman.languages import nllb_codes
from dragoman.text.detect import Detection, detect, detectable, explain

DATA = Path(__file__).parent.parent / "data"
FIVE = ["eng_Latn", "deu_Latn", "spa_Latn", "fra_Latn", "nld_Latn"]

SENTENCES = {
    "eng_Latn": [
        "The weather has been terrible all week.",
        "Where did you put the keys to the car?",
        "She had never seen such a beautiful garden before.",
        "Please send me the report by Friday evening.",
        "I think we should leave before it gets dark.",
    ],
    "deu_Latn": [
        "Das Wetter war die ganze Woche schrecklich.",
        "Wo hast du die Schlüssel für das Auto hingelegt?",
        "Sie hatte noch nie einen so schönen Garten gesehen.",
        "Bitte schicken Sie mir den Bericht bis Freitagabend.",
        "Ich glaube, wir sollten gehen, bevor es dunkel wird.",
    ],
    "fra_Latn": [
        "Il a fait un temps affreux toute la semaine.",
        "Où as-tu mis les clés de la voiture ?",
        "Elle n'avait jamais vu un aussi beau jardin.",
        "Veuillez m'envoyer le rapport avant vendredi soir.",
        "Je pense que nous devrions partir avant la nuit.",
    ],
    "spa_Latn": [
        "El tiempo ha sido horrible toda la semana.",
        "¿Dónde has puesto las llaves del coche?",
        "Ella nunca había visto un jardín tan bonito.",
        "Por favor, envíeme el informe antes del viernes.",
        "Creo que deberíamos irnos antes de que oscurezca.",
    ],
    "por_Latn": [
        "O tempo esteve horrível durante toda a semana.",
        "Onde é que você colocou as chaves do carro?",
        "Ela nunca tinha visto um jardim tão bonito.",
        "Por favor, envie-me o relatório até sexta-feira.",
        "Acho que não devemos sair antes do anoitecer.",
    ],
    "nld_Latn": [
        "Het weer was de hele week verschrikkelijk.",
        "Waar heb je de sleutels van de auto gelegd?",
        "Ze had nog nooit zo'n mooie tuin gezien.",
        "Stuur mij het verslag voor vrijdagavond, alstublieft.",
        "Ik denk dat we moeten vertrekken voordat het donker wordt.",
    ],
    "pol_Latn": [
        "Pogoda była okropna przez cały tydzień.",
        "Gdzie położyłeś kluczyki do samochodu?",
        "Nigdy wcześniej nie widziała tak pięknego ogrodu.",
        "Proszę przesłać mi raport do piątku wieczorem.",
        "Myślę, że powinniśmy wyjść, zanim się ściemni.",
    ],
    "tur_Latn": [
        "Hava bütün hafta boyunca çok kötüydü.",
        "Arabanın anahtarlarını nereye koydun?",
        "Daha önce hiç bu kadar güzel bir bahçe görmemişti.",
        "Lütfen raporu cuma akşamına kadar bana gönderin.",
        "Bence hava kararmadan önce gitmeliyiz.",
    ],
    "vie_Latn": [
        "Thời tiết cả tuần nay rất tệ.",
        "Bạn để chìa khóa xe ở đâu vậy?",
        "Cô ấy chưa bao giờ thấy một khu vườn đẹp như thế.",
        "Xin hãy gửi cho tôi báo cáo trước tối thứ sáu.",
        "Tôi nghĩ chúng ta nên đi trước khi trời tối.",
    ],
    "rus_Cyrl": [
        "Всю неделю стояла ужасная погода.",
        "Куда ты положил ключи от машины?",
        "Она никогда ещё не видела такого красивого сада.",
        "Пожалуйста, пришлите мне отчёт до вечера пятницы.",
        "Я думаю, нам стоит уйти, пока не стемнело.",
    ],
    "ukr_Cyrl": [
        "Увесь тиждень була жахлива погода.",
        "Куди ти поклав ключі від машини?",
        "Вона ще ніколи не бачила такого гарного саду.",
        "Будь ласка, надішліть мені звіт до вечора п'ятниці.",
        "Гадаю, нам слід піти, поки не стемніло.",
    ],
    "arb_Arab": [
        "كان الطقس سيئا طوال الأسبوع الماضي.",
        "أين وضعت مفاتيح السيارة الجديدة؟",
        "لم تكن قد رأت من قبل حديقة بهذا الجمال.",
        "من فضلك أرسل إلي التقرير قبل مساء الجمعة.",
        "أعتقد أنه يجب علينا أن نغادر قبل حلول الظلام.",
    ],
    "hin_Deva": [
        "पूरे हफ़्ते मौसम बहुत ख़राब रहा।",
        "तुमने गाड़ी की चाबियाँ कहाँ रख दीं?",
        "उसने पहले कभी इतना सुंदर बगीचा नहीं देखा था।",
        "कृपया शुक्रवार शाम तक मुझे रिपोर्ट भेज दें।",
        "मुझे लगता है कि हमें अंधेरा होने से पहले निकल जाना चाहिए।",
    ],
    "zho_Hans": [
        "整个星期天气都很糟糕。",
        "你把车钥匙放在哪里了？",
        "她从来没有见过这么漂亮的花园。",
        "请在星期五晚上之前把报告发给我。",
        "我觉得我们应该在天黑之前离开。",
    ],
    "jpn_Jpan": [
        "一週間ずっとひどい天気でした。",
        "車の鍵をどこに置きましたか。",
        "彼女はこんなに美しい庭を見たことがなかった。",
        "金曜日の夜までに報告書を送ってください。",
        "暗くなる前に出発したほうがいいと思います。",
    ],
    "kor_Hang": [
        "일주일 내내 날씨가 아주 나빴어요.",
        "자동차 열쇠를 어디에 두었어요?",
        "그녀는 그렇게 아름다운 정원을 본 적이 없었다.",
        "금요일 저녁까지 보고서를 보내 주세요.",
        "어두워지기 전에 떠나는 게 좋겠어요.",
    ],
}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [(code, sentence) for code, sentences in SENTENCES.items() for sentence in sentences],
)
def test_a_whole_sentence_is_detected_among_all_languages(code: str, sentence: str) -> None:
    detection = detect(sentence, nllb_codes())
    assert detection is not None
    assert detection.code == code
    assert 0.5 < detection.confidence <= 1


@pytest.mark.parametrize(
    "text",
    ["", "   \n", "12.5 / 3", "?!…", "😀👍🏽", "ℹ️ №", "{name}", "\x00", "https://example.com/the", "API_KEY"],
)
def test_text_without_letters_is_left_open(text: str) -> None:
    assert detect(text, nllb_codes()) is None
    assert detect(text, ["eng_Latn"]) is None


@pytest.mark.parametrize("text", ["ok", "a", "no", "hotel", "taxi", "E = mc2", "lorem ipsum dolor sit amet"])
def test_a_text_that_fits_several_languages_gives_a_guess_that_is_not_sure(text: str) -> None:
    guess = detect(text, FIVE)
    assert guess is not None
    assert guess.code in FIVE
    assert not guess.sure


def interface() -> list[tuple[str, str]]:
    """What buttons and messages say, sixty of each language: (code, text)."""
    lines = (DATA / "interface.tsv").read_text(encoding="utf-8").splitlines()
    return [(code, text) for code, _, text in (line.partition("\t") for line in lines)]


@pytest.mark.parametrize(
    ("among", "right", "sure", "mistaken"), [(FIVE, 0.94, 0.92, 0.02), (nllb_codes(), 0.90, 0.58, 0.01)]
)
def test_the_language_of_a_word_or_two_is_mostly_guessed(
    among: list[str], right: float, sure: float, mistaken: float
) -> None:
    found = [(code, detect(text, among)) for code, text in interface()]
    assert all(guess is not None for _, guess in found)
    guesses = [(code, guess) for code, guess in found if guess]
    assert sum(guess.code == code for code, guess in guesses) >= right * len(found)
    assert sum(guess.sure for _, guess in guesses) >= sure * len(found)
    assert sum(guess.sure and guess.code != code for code, guess in guesses) <= mistaken * len(found)


@pytest.mark.parametrize("text", ["Hello", "OK", "Settings", "Good luck!", "Save", "Cancel"])
@pytest.mark.parametrize("among", [FIVE, nllb_codes()])
def test_english_of_screens_is_english(text: str, among: list[str]) -> None:
    guess = detect(text, among)
    assert guess is not None
    assert guess.code == "eng_Latn"


def test_a_text_that_does_not_tell_is_in_a_language_that_is_likely() -> None:
    for code in FIVE:
        guess = detect("OK", FIVE, likely=[code])
        assert guess is not None
        assert (guess.code, guess.sure) == (code, False)
    assert detect("Guten Tag!", FIVE, likely=["fra_Latn"]) == detect("Guten Tag!", FIVE)
    assert detect("OK", FIVE, likely=["jpn_Jpan"]) == detect("OK", FIVE)


def test_full_sentences_in_everyday_spanish_are_sure() -> None:
    for text in ["No sé.", "Tom murió.", "¿Qué hora es?", "Ella no está aquí.", "Necesito ayuda."]:
        guess = detect(text, nllb_codes())
        assert guess is not None
        assert (guess.code, guess.sure) == ("spa_Latn", True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Guten Tag!", "deu_Latn"),
        ("Wie geht's?", "deu_Latn"),
        ("Thank you", "eng_Latn"),
        ("s'il vous plaît", "fra_Latn"),
    ],
)
def test_a_short_text_is_enough_among_few_languages(text: str, code: str) -> None:
    detection = detect(text, FIVE)
    assert detection is not None
    assert detection.code == code


@pytest.mark.parametrize(
    "text", [SENTENCES[code][0] for code in ("pol_Latn", "tur_Latn", "vie_Latn", "rus_Cyrl", "jpn_Jpan")]
)
def test_a_language_outside_the_model_is_not_taken_for_one_inside(text: str) -> None:
    for among in (FIVE, ["eng_Latn", "ell_Grek"]):
        guess = detect(text, among)
        assert guess is None or (guess.foreign and not guess.sure)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Ναι", "ell_Grek"),
        ("კი", "kat_Geor"),
        ("ใช่", "tha_Thai"),
        ("네", "kor_Hang"),
        ("ㅋㅋㅋ", "kor_Hang"),
        ("はい", "jpn_Jpan"),
        ("ᱥᱟᱱᱛᱟᱲᱤ", "sat_Beng"),
    ],
)
def test_a_script_of_one_language_decides(text: str, code: str) -> None:
    assert detect(text, nllb_codes()) == Detection(code, 1.0)


def test_the_only_language_of_a_script_needs_no_more_than_letters() -> None:
    assert detect("ok", ["eng_Latn", "jpn_Jpan", "rus_Cyrl"]) == Detection("eng_Latn", 1.0)
    assert detect("བཀྲ་ཤིས་བདེ་ལེགས།", ["eng_Latn", "bod_Tibt"]) == Detection("bod_Tibt", 1.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("我觉得我们应该离开", "zho_Hans"),
        ("我覺得我們應該離開", "zho_Hant"),
        ("你好世界", "zho_Hans"),
        ("佢哋喺香港住咗好耐", "yue_Hant"),
        ("我用Windows操作系统", "zho_Hans"),
        ("iPhoneを買った", "jpn_Jpan"),
    ],
)
def test_chinese_characters_are_told_apart(text: str, code: str) -> None:
    detection = detect(text, nllb_codes())
    assert detection is not None
    assert detection.code == code


def test_chinese_of_the_other_script_is_left_open() -> None:
    assert detect("我覺得我們應該離開", ["zho_Hans", "eng_Latn"]) is None
    assert detect("你好世界", ["zho_Hant", "eng_Latn"]) == Detection("zho_Hant", 1.0)


def test_the_script_must_be_that_of_the_language() -> None:
    latin, cyrillic = "Ovo je veoma lep dan za šetnju po gradu", "Ово је веома леп дан за шетњу по граду"
    among = ["eng_Latn", "deu_Latn", "srp_Cyrl", "rus_Cyrl"]
    detection = detect(cyrillic, among)
    assert detection is not None
    assert detection.code == "srp_Cyrl"
    guess = detect(latin, among)
    assert guess is not None
    assert guess.foreign
    assert not guess.sure


def test_an_unclear_dialect_is_its_standard_language() -> None:
    detection = detect("مرحبا كيف حالك", nllb_codes())
    assert detection is not None
    assert detection.code == "arb_Arab"


def test_norwegian_is_bokmal_where_nynorsk_is_not_spoken() -> None:
    text = "Eg veit ikkje kva ho heiter, men eg har sett henne før."
    for among, code in [
        (["nob_Latn", "nno_Latn", "eng_Latn"], "nno_Latn"),
        (["nob_Latn", "eng_Latn"], "nob_Latn"),
    ]:
        detection = detect(text, among)
        assert detection is not None
        assert detection.code == code


def test_addresses_do_not_speak_for_the_text() -> None:
    text = "Siehe https://www.example.com/where/this/was/written oder the.writer@example.com, danke."
    detection = detect(text, FIVE)
    assert detection is not None
    assert detection.code == "deu_Latn"


def test_upper_case_a_lone_surrogate_and_white_space_do_not_matter() -> None:
    for text in [
        "DAS IST NUR EIN TEST",
        "Das ist \ud83d nur ein Test",
        "\n" * 20_000 + "Das ist nur ein Test",
    ]:
        detection = detect(text, FIVE)
        assert detection is not None
        assert detection.code == "deu_Latn"


@pytest.mark.parametrize(
    ("text", "among", "message"),
    [
        ("123", FIVE, "no words"),
        ("Gdzie położyłeś kluczyki?", FIVE, "looks like Polish; the nearest that this model speaks is "),
        ("hotel", FIVE, "clearly enough. It might be "),
        ("Ναι", FIVE, "in Greek script, and this model speaks no language written in it"),
        ("བཀྲ་ཤིས།", ["bod_Tibt", "dzo_Tibt"], "might be Standard Tibetan or Dzongkha"),
        ("Ovo je veoma lep dan za šetnju", ["srp_Cyrl", "eng_Latn"], "looks like "),
    ],
)
def test_the_explanation_says_why_a_text_does_not_tell(text: str, among: list[str], message: str) -> None:
    guess = detect(text, among)
    assert guess is None or not guess.sure
    assert message in explain(text, among)


def test_confidence_is_the_share_among_the_languages_given() -> None:
    text = "God morgen, hvordan har du det?"
    two, three = (detect(text, [*codes, "nob_Latn"]) for codes in (["eng_Latn"], ["eng_Latn", "dan_Latn"]))
    assert two is not None
    assert three is None or three.confidence < two.confidence


def test_detectable_are_those_with_a_label_or_a_script_of_their_own() -> None:
    assert detectable(["eng_Latn", "deu_Latn", "wol_Latn"]) == {"eng_Latn", "deu_Latn"}
    assert detectable(["bod_Tibt", "eng_Latn"]) == {"bod_Tibt", "eng_Latn"}
    assert detectable(["bod_Tibt", "dzo_Tibt"]) == frozenset()
    assert {"zho_Hans", "zho_Hant", "yue_Hant", "nob_Latn", "arb_Arab"} <= detectable(nllb_codes())
    assert len(detectable(nllb_codes())) >= 120


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters()))
def test_any_text_gives_a_language_of_the_model_or_none(text: str) -> None:
    among = [*FIVE, "zho_Hans", "jpn_Jpan", "arb_Arab", "taq_Tfng"]
    detection = detect(text, among)
    assert detection is None or (detection.code in among and 0 < detection.confidence <= 1)


def test_no_language_to_choose_from_is_no_detection() -> None:
    assert detect("Hello", []) is None


def test_unknown_code_is_an_error() -> None:
    with pytest.raises(UnknownLanguage):
        detect("Hello", ["Klingon"])


def test_language_beyond_the_table_is_never_the_guess() -> None:
    assert detect("Где находится вокзал?", ["tyv_Cyrl", "eng_Latn"]) is None
    found = detect("Где находится вокзал?", ["tyv_Cyrl", "rus_Cyrl"])
    assert found is not None
    assert found.code == "rus_Cyrl"


def test_threads_agree() -> None:
    jobs = [(sentence, code) for code, sentences in SENTENCES.items() for sentence in sentences]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: detect(job[0], [job[1], "eng_Latn", "fin_Latn"]), jobs))
    assert [detection.code if detection else None for detection in found] == [code for _, code in jobs]


def test_importing_loads_neither_torch_nor_the_models() -> None:
    code = (
        "import sys, dragoman.text.detect, dragoman.text.sentences;"
        "assert not {'torch', 'numpy', 'py3langid', 'sentencex'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
