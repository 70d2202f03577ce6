"""Translation over HTTP: `dragoman serve`.

One file a dialect: `own` (`/v1`), `libretranslate`, `deepl`, `google`, `openai`. Needs the extra `server`.
"""
