"""A desk of four agents in LangGraph and in the OpenAI Agents SDK: ``python -m examples.support_desk --help``."""
