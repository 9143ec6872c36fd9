/* error.hpp -- a failure as a C++ exception that carries the status. */
#ifndef EVERHEAP_ERROR_HPP
#define EVERHEAP_ERROR_HPP

#include <everheap.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

namespace evh
{

namespace detail
{

/* An exception of this library: `Base`, and the reason. */
template <typename Base> class with_reason : public Base
{
  public:
    explicit with_reason(const evh_error &why) noexcept : why_(why)
    {
    }
    const char *what() const noexcept override
    {
        return why_.message;
    }
    evh_status status() const noexcept
    {
        return why_.status;
    }
    /** Status, errno, offset and message, as evh_last_error() had them. */
    const evh_error &why() const noexcept
    {
        return why_;
    }

  private:
    evh_error why_;
};

} // namespace detail

/** What failed: thrown by all that fails, except allocations. */
class error : public detail::with_reason<std::exception>
{
    using with_reason::with_reason;
};

/** An allocation that failed: a std::bad_alloc, so that what handles those handles it. */
class bad_alloc : public detail::with_reason<std::bad_alloc>
{
    using with_reason::with_reason;
};

namespace detail
{

/* In a program that is compiled without exceptions a failure prints its message and aborts, as a
 * failing operator new does there. Calls named try_ return the status instead. */
template <typename Exception> [[noreturn]] inline void raise(const evh_error &why)
{
#if defined(__cpp_exceptions)
    throw Exception(why);
#else
    std::fprintf(stderr, "everheap: %s: %s\n", evh_status_name(why.status), why.message);
    std::abort();
#endif
}

/** Throw this thread's last error. */
[[noreturn]] inline void fail()
{
    raise<error>(*evh_last_error());
}

/** Throw this thread's last error as that of an allocation. */
[[noreturn]] inline void fail_allocation()
{
    raise<bad_alloc>(*evh_last_error());
}

inline evh_error describe(evh_status status, const char *message) noexcept
{
    evh_error why{};
    why.status = status;
    why.offset = UINT64_MAX;
    std::snprintf(why.message, sizeof why.message, "%s", message);
    return why;
}

/** Throw an error that C++ found, not the library. */
[[noreturn]] inline void fail_with(evh_status status, const char *message)
{
    raise<error>(describe(status, message));
}

inline void check(evh_status status)
{
    if (status != EVH_OK) fail();
}

} // namespace detail

} // namespace evh

#endif
