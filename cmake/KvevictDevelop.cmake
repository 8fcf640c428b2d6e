# What the project's own programs are built with; a user of the headers never includes this file.
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(OpenMP REQUIRED COMPONENTS CXX)
set(MPI_CXX_SKIP_MPICXX TRUE)
find_package(MPI QUIET COMPONENTS CXX)

add_library(kvevict_develop INTERFACE)
target_link_libraries(kvevict_develop INTERFACE kvevict::cpu OpenMP::OpenMP_CXX)
# g++ 12 finds "uninitialized" values in its own AVX-512 intrinsics (GCC bug 105593); clang sees the real ones.
target_compile_options(kvevict_develop INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
                                                 -Wold-style-cast -Wnon-virtual-dtor
                                                 $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>
                                                 $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
                                                 $<$<BOOL:${KVEVICT_WERROR}>:-Werror>
                                                 $<$<BOOL:${KVEVICT_NATIVE}>:-march=native>)
if(KVEVICT_SANITIZE)
  target_compile_options(kvevict_develop INTERFACE -fsanitize=${KVEVICT_SANITIZE} -fno-sanitize-recover=all
                                                   -fno-omit-frame-pointer -g1)
  target_link_options(kvevict_develop INTERFACE -fsanitize=${KVEVICT_SANITIZE})
endif()

# What is made for every policy builds in a third of the time of -O3 with -O2, and the vector loops are written out
# anyway. KVEVICT_QUICK: tests are there to be built and run once, so nothing is optimised for what does not take long.
option(KVEVICT_QUICK "Build programs sooner and slower (the test preset)" OFF)
set(KVEVICT_EVERY_POLICY $<$<CONFIG:Release>:-O2>)
if(KVEVICT_QUICK)
  set(KVEVICT_EVERY_POLICY $<$<CONFIG:Release>:-O1>)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -DNDEBUG")
  set(CMAKE_CUDA_FLAGS_RELEASE "-O0 -DNDEBUG")
endif()

# KVEVICT_HAS_CUDA: whether the CUDA parts of tests and examples are built, for the GPU of this machine or, where there
# is none, as PTX that later ones can run too. Tests that will be skipped need no good code: that takes half the time.
set(KVEVICT_CUDA AUTO CACHE STRING "CUDA parts of tests and examples: AUTO (where there is nvcc), ON or OFF")
set(KVEVICT_HAS_CUDA OFF)
if(NOT KVEVICT_CUDA STREQUAL "OFF" AND NOT KVEVICT_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES 80-virtual)
    set(CMAKE_CUDA_FLAGS "")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(KVEVICT_HAS_CUDA ON)
    # Native code is of 90, not of 90a, which alone has wgmma.
    string(REGEX REPLACE "(90|100)-real" "\\1a-real" here "${CMAKE_CUDA_ARCHITECTURES_NATIVE}")
    if(here MATCHES "^[0-9]")
      set(CMAKE_CUDA_ARCHITECTURES ${here})
    elseif(KVEVICT_QUICK)
      set(CMAKE_CUDA_FLAGS "-Xcicc -O0")
    endif()
  elseif(KVEVICT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "KVEVICT_CUDA is ON, but there is no nvcc: install the CUDA toolkit, or put nvcc on the path")
  endif()
endif()

# kvevict_header_test(): every header is compiled alone, included twice, and linked with an object that includes all of
# them, so that a missing include, a missing guard and a missing `inline` all fail.
function(kvevict_header_test)
  file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS
       ${PROJECT_SOURCE_DIR}/include/*.hpp)
  if(NOT MPI_CXX_FOUND)
    message(STATUS "headers: kvevict/mpi.hpp is not compiled, MPI was not found")
    list(REMOVE_ITEM headers kvevict/mpi.hpp)
  endif()
  set(sources)
  set(all "")
  foreach(header IN LISTS headers)
    string(MAKE_C_IDENTIFIER ${header} id)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/headers/${id}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include <${header}>\n#include <${header}>\n")
    list(APPEND sources ${source})
    string(APPEND all "#include <${header}>\n")
  endforeach()
  set(main ${CMAKE_CURRENT_BINARY_DIR}/headers/main.cpp)
  file(CONFIGURE OUTPUT ${main} CONTENT "${all}int main() {}\n")
  add_executable(test_headers ${sources} ${main})
  target_link_libraries(test_headers PRIVATE kvevict_develop $<TARGET_NAME_IF_EXISTS:MPI::MPI_CXX>)
  target_compile_options(test_headers PRIVATE -O0)
  add_test(NAME headers COMMAND test_headers)
endfunction()

# kvevict_must_not_compile(NAME SOURCE): the source compiles as it is, and with -DWRONG it fails with the text after
# `// expect:` in its first lines, so that it cannot fail for another reason.
function(kvevict_must_not_compile source)
  get_filename_component(name ${source} NAME_WE)
  file(STRINGS ${source} expectation REGEX "^// expect: " LIMIT_COUNT 1)
  string(REPLACE "// expect: " "" expectation "${expectation}")
  set(command ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -I${PROJECT_SOURCE_DIR}/include
      -isystem $<JOIN:$<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>,$<SEMICOLON>-isystem$<SEMICOLON>>
      ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  add_test(NAME compiles.${name} COMMAND "${command}" COMMAND_EXPAND_LISTS)
  add_test(NAME must_not_compile.${name} COMMAND "${command}" -DWRONG COMMAND_EXPAND_LISTS)
  set_tests_properties(must_not_compile.${name} PROPERTIES PASS_REGULAR_EXPRESSION "${expectation}")
endfunction()
